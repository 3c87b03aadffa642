#!/usr/bin/env python3
"""table.py RESULTS.jsonl: medians per variant and proxy, and what portcullis costs beside each peer (below 1 is better)."""
import collections
import json
import statistics
import sys

rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    row = json.loads(line)
    if row.get("cpu_us") and not row.get("bad"):
        rows[row["variant"], row["proxy"]].append(row)
    elif row.get("bad"):
        print(f"left out: {row['proxy']} {row['variant']}: {row['bad']} requests failed")

def median(variant, proxy, key):
    return statistics.median(row[key] for row in rows[variant, proxy])

print(f"{'variant':9} {'proxy':12} {'CPU µs/request':>14} {'requests/s':>11} {'portcullis ÷ this':>18}  rounds")
for variant in dict.fromkeys(variant for variant, _ in rows):
    for name, proxy in sorted(key for key in rows if key[0] == variant):
        own = (variant, "portcullis") in rows and proxy != "portcullis"
        ratio = f"{median(variant, 'portcullis', 'cpu_us') / median(variant, proxy, 'cpu_us'):.2f}" if own else ""
        print(
            f"{variant:9} {proxy:12} {median(variant, proxy, 'cpu_us'):14.1f}"
            f" {median(variant, proxy, 'rps'):11.0f} {ratio:>18}  {len(rows[variant, proxy])}"
        )
