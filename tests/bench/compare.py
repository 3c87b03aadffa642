#!/usr/bin/env python3
"""compare.py OUT.jsonl: every case of cases.py with every proxy, one after the other, in BENCH_ROUNDS (3) rounds.

BENCH_CASES (names of cases) and BENCH_PROXIES narrow it. PORTCULLIS_CMD is what bench.py starts as portcullis."""
import json
import os
import subprocess
import sys

from cases import CASES

HERE = os.path.dirname(os.path.abspath(__file__))


def measure(case, proxy):
    """One line of bench.py, or why there is none."""
    variant, load = case.variant, case.load
    if case.other and proxy == case.against:
        variant, load = case.other
    own = ["--cmd", os.environ["PORTCULLIS_CMD"]] if proxy.startswith("portcullis") else []
    command = [sys.executable, f"{HERE}/bench.py", "--proxy", proxy, "--variant", variant, *own, *load]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    try:
        return json.loads(done.stdout.strip().split("\n")[-1])
    except ValueError:
        raise RuntimeError(f"{proxy}: {done.stderr[-500:]}") from None


def chosen(variable, names):
    wanted = os.environ.get(variable)
    return [name for name in names if not wanted or name in wanted.split(",")]


def main():
    failed = False
    with open(sys.argv[1], "a") as out:
        for turn in range(int(os.environ.get("BENCH_ROUNDS", "3"))):
            for case in CASES:
                if not chosen("BENCH_CASES", [case.name]):
                    continue
                for proxy in chosen("BENCH_PROXIES", ["portcullis", *case.proxies]):
                    try:
                        row = measure(case, proxy)
                    except (RuntimeError, subprocess.TimeoutExpired) as why:
                        failed = True
                        print(f"FAILED {case.name} {why}", flush=True)
                        continue
                    out.write(json.dumps({"case": case.name, "round": turn, **row}) + "\n")
                    out.flush()
                    print(f"{turn} {case.name:13} {proxy:13} {row['cpu_us']:7.2f} µs {row['rps']:8.0f}/s, bad {row['bad']}", flush=True)
    sys.exit(failed)


main()
