#!/usr/bin/env python3
"""report.py MEASUREMENTS.jsonl DIRECTORY: the table (Markdown, also printed), its figures (JSON) and a plot (SVG).

A ratio is the median of the rounds' ratios: both sides of each were measured within the same minute."""
import collections
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys

from cases import CASES

NAMES = {"portcullis": "Portcullis", "haproxy": "HAProxy", "nginx": "nginx", "envoy": "Envoy", "envoy-cache": "Envoy with its token cache", "portcullis-10": "itself with 10"}


def main():
    source, directory = sys.argv[1:]
    os.makedirs(directory, exist_ok=True)
    rows = summary(source)
    if not rows:
        sys.exit("no case was measured on both sides")
    facts = about(source)
    text = markdown(rows, facts)
    print(text)
    write(directory, "table.md", text)
    write(directory, "figures.json", json.dumps({"about": facts, "cases": rows}, indent=1, ensure_ascii=False) + "\n")
    write(directory, "plot.svg", plot(rows, facts))


def write(directory, name, text):
    with open(f"{directory}/{name}", "w", encoding="utf-8") as file:
        file.write(text)


def summary(source):
    """Per case: CPU of each proxy, and the ratio that is bounded."""
    found = collections.defaultdict(lambda: collections.defaultdict(dict))
    for line in open(source):
        row = json.loads(line)
        if row["bad"]:
            print(f"left out: {row['case']} {row['proxy']}: {row['bad']} requests failed")
        else:
            found[row["case"]][row["proxy"]][row["round"]] = row
    rows = []
    for case in CASES:
        proxies = found[case.name]
        own, peer = proxies.get("portcullis", {}), proxies.get(case.against, {})
        both = sorted(own.keys() & peer.keys())
        if not both:
            continue
        ratios = [own[turn]["cpu_us"] / peer[turn]["cpu_us"] for turn in both]
        # Judged as it is shown: 0.353 is not 0.35.
        ratio = round(statistics.median(ratios), 3)
        rows.append({
            "case": case.name, "title": case.title, "against": case.against, "must": case.must, "aim": case.aim,
            "ratio": ratio, "ratio_min": round(min(ratios), 3), "ratio_max": round(max(ratios), 3), "rounds": len(both), "holds": ratio <= case.must,
            "proxies": {name: figures(turns.values()) for name, turns in proxies.items()},
        })
    return rows


def figures(turns):
    cpu = [row["cpu_us"] for row in turns]
    return {"cpu_us": round(statistics.median(cpu), 1), "cpu_us_min": round(min(cpu), 1), "cpu_us_max": round(max(cpu), 1),
            "requests_per_second": round(statistics.median(row["rps"] for row in turns))}


def about(source):
    """When, where and of what."""
    def said(*command):
        done = subprocess.run(command, capture_output=True, text=True, cwd=os.path.dirname(os.path.abspath(__file__)))
        return (done.stdout or done.stderr).strip().split("\n")[0]
    cpu = next(line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    return {
        "date": datetime.date.fromtimestamp(os.path.getmtime(source)).isoformat(),
        "commit": os.environ.get("BENCH_COMMIT") or said("git", "describe", "--always", "--dirty", "--exclude=*"),
        "build": os.environ.get("BENCH_BUILD", "unknown"),
        "machine": f"{os.cpu_count()} vCPUs of an {cpu}, Linux {platform.release()}",
        "peers": f"{said('haproxy', '-v').split(' - ')[0]}, {said('nginx', '-v').removeprefix('nginx version: ')}, Envoy 1.40.0",
        "command": os.environ.get("BENCH_COMMAND", "make bench"),
    }


def markdown(rows, facts):
    lines = [
        f"`{facts['command']}` on {facts['date']} at commit {facts['commit']} ({facts['build']}); {facts['machine']}; {facts['peers']}.",
        "CPU microseconds of the proxy's processes per request on one core: median (min–max) of interleaved rounds.", "",
        "| load | Portcullis | compared with | ratio | must | aim | holds |", "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        def cell(name):
            one = row["proxies"][name]
            return f"{one['cpu_us']} ({one['cpu_us_min']}–{one['cpu_us_max']})"
        peer = f"{NAMES[row['against']]} {cell(row['against'])}"
        ratio = f"**{row['ratio']:.3f}** ({row['ratio_min']:.2f}–{row['ratio_max']:.2f})"
        lines.append(f"| {row['title']} | {cell('portcullis')} | {peer} | {ratio} | ≤ {row['must']:.2f} | ≤ {row['aim']:.2f} | {'yes' if row['holds'] else '**no**'} |")
    others = []
    for row in rows:
        for name, one in row["proxies"].items():
            if name not in ("portcullis", row["against"]):
                others.append(f"{NAMES[name]} {one['cpu_us']} ({row['case']})")
    if others:
        lines += ["", "The other peers beside them: " + ", ".join(others) + "."]
    return "\n".join(lines) + "\n"


# ---- plot: one bar per case, its bound and the peer (1.0) as lines ----
WIDTH, LEFT, RIGHT, ROW, TOP = 1080, 440, 180, 40, 74
HOLDS, MISSES, INK, PALE = "#2f7d4f", "#c2571a", "#1f2328", "#8b949e"


def plot(rows, facts):
    most = max(max(row["ratio_max"], row["must"]) for row in rows) * 1.05
    at = lambda ratio: LEFT + ratio / most * (WIDTH - LEFT - RIGHT)
    height = TOP + ROW * len(rows) + 68
    text = lambda x, y, said, **style: f'<text x="{x:.1f}" y="{y:.1f}" ' + " ".join(f'{key.replace("_", "-")}="{value}"' for key, value in style.items()) + f">{said}</text>"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(16, 26, "CPU per request: Portcullis ÷ the peer that it is compared with (shorter is better)", font_size=16, font_weight=600),
        text(16, 46, "policies, limits, metrics and access log on; the peers' logs are off. Whisker: min–max of the rounds. Black tick: must.", fill=PALE, font_size=12),
    ]
    bottom = TOP + ROW * len(rows)
    step = 0.2 if most < 2.2 else 0.5
    for n in range(int(most / step) + 1):
        x, is_one = at(n * step), abs(n * step - 1) < 1e-9
        dashes = ' stroke-dasharray="4 3"' if is_one else ""
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{bottom}" stroke="{INK if is_one else "#e1e4e8"}"{dashes}/>')
        parts.append(text(x, bottom + 16, f"{n * step:.1f}", text_anchor="middle", fill=PALE, font_size=11))
    for place, row in enumerate(rows):
        y, colour = TOP + ROW * place, HOLDS if row["holds"] else MISSES
        own, peer = row["proxies"]["portcullis"], row["proxies"][row["against"]]
        middle = y + 14
        parts += [
            text(LEFT - 12, y + 13, row["title"].replace("&", "&amp;"), text_anchor="end"),
            text(LEFT - 12, y + 28, f"{own['cpu_us']} µs, {NAMES[row['against']]} {peer['cpu_us']} µs", text_anchor="end", fill=PALE, font_size=11),
            f'<rect x="{LEFT}" y="{y + 4}" width="{at(row["ratio"]) - LEFT:.1f}" height="20" rx="2" fill="{colour}"/>',
            f'<line x1="{at(row["ratio_min"]):.1f}" x2="{at(row["ratio_max"]):.1f}" y1="{middle}" y2="{middle}" stroke="{INK}" stroke-width="1.5"/>',
            f'<line x1="{at(row["must"]):.1f}" x2="{at(row["must"]):.1f}" y1="{y}" y2="{y + 28}" stroke="#000000" stroke-width="3"/>',
            text(WIDTH - RIGHT + 12, y + 18, f"{row['ratio']:.3f} (must ≤ {row['must']:.2f})", fill=colour, font_weight=600),
        ]
    parts.append(text(16, height - 28, f"{facts['date']}, commit {facts['commit']} ({facts['build']}), {facts['machine']}", fill=PALE, font_size=11))
    parts.append(text(16, height - 12, facts["peers"], fill=PALE, font_size=11))
    return "\n".join(parts) + "\n</svg>\n"


main()
