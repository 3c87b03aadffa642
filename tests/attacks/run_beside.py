#!/usr/bin/env python3
"""run_beside.py [--only RX] [--json OUT]: what a well-behaved client on another route notices of an attack (attacker.py), beside what it notices of
harmless load that costs the gateway as much CPU. Attacker and load are capped to half a core each, by their own clock: stopped and continued by
signals (SIGSTOP, SIGCONT) every few milliseconds, so that it works without rights over cgroups. Attack and load take turns of a second and a half, three times; the ratio is that of
the medians. FAIL: a ratio above 2 that stays above it in three tries, memory above the bound, or a gateway that is gone. Loopback only; needs
python3-cryptography."""
import argparse, collections, contextlib, json, os, re, signal, statistics, subprocess, sys, threading, time
HERE = os.path.dirname(os.path.abspath(__file__)); sys.path.insert(0, HERE)
import attacker
from gateway import ALL, Gateway, site
SHARE, TURN, TURNS, TRIES = 0.5, 1.5, 3, 3
RATIO = 2.0
BOUND, BOUND_HELD = 128, 192  # MB; the second for attacks that hold hundreds of connections or unread answers
HELD = {"handshake_stall", "slow_heads", "slow_bodies", "slow_readers", "slow_preface", "window_games", "unread_answers"}
BACKEND = r"""
import asyncio, sys
async def serve(r, w):
    try:
        while True:
            head = await r.readuntil(b"\r\n\r\n")
            if b"/big" in head.split(b"\r\n")[0]:
                w.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4194304\r\n\r\n")
                for _ in range(64): w.write(b"x" * 65536); await w.drain()
            else: w.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); await w.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError): w.close()
async def main():
    s = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024); print(s.sockets[0].getsockname()[1], flush=True); await s.serve_forever()
asyncio.run(main())
"""


class Capped:
    """A child that gets `share` of a core and no more, from the line on with which it says that it begins; what it did not use is not kept for later."""
    def __init__(self, share, *command):
        self.share = share; self.child = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL); self.child.stdout.readline(); self.over = threading.Event(); self.thread = threading.Thread(target=self.govern, daemon=True); self.thread.start()
    def used(self): return int(open(f"/proc/{self.child.pid}/schedstat").read().split()[0]) / 1e9
    def govern(self):
        stopped = False
        try:
            allowed, last = self.used() + 0.005, time.monotonic()
            while not self.over.wait(0.004):
                now = time.monotonic(); allowed += (now - last) * self.share; last = now; used = self.used(); allowed = min(allowed, used + 0.01)
                if (used > allowed) != stopped: stopped = not stopped; self.child.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)
        except (OSError, ValueError, IndexError): pass
    def stop(self): self.over.set(); self.thread.join(); self.child.kill(); self.child.wait()


class Calm:
    """The well-behaved client, a process of its own."""
    def __init__(self, gateway):
        self.child = subprocess.Popen([sys.executable, os.path.join(HERE, "calm.py"), "%s:%d" % gateway.address(), "tls", "turns"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True); time.sleep(0.5); self.turn()
    def turn(self):
        """The p50 in ms since the last turn."""
        self.child.stdin.write("\n"); self.child.stdin.flush(); return float(self.child.stdout.readline())
    def stop(self): self.child.kill(); self.child.wait()


def beside(gateway, calm, name, share=SHARE):
    """The p50 of the calm client beside something, and the gateway's CPU for it as a share of a core."""
    other = Capped(share, os.path.join(HERE, "attacker.py"), name, "%s:%d" % gateway.address()); time.sleep(0.3); calm.turn(); cpu, began = gateway.cpu(), time.monotonic(); time.sleep(TURN)
    p50 = calm.turn(); cpu = (gateway.cpu() - cpu) / (time.monotonic() - began); other.stop(); return p50, cpu


def measure(name):
    backend = subprocess.Popen([sys.executable, "-c", BACKEND], stdout=subprocess.PIPE, text=True); port = backend.stdout.readline().strip(); notes = []; bound = BOUND_HELD if name in HELD else BOUND
    try:
        with Gateway(ALL) as g, contextlib.ExitStack() as stack:
            config = site(g, "tls", f"http://127.0.0.1:{port}")
            for path in ("calm", "harmless"): config["routes"].insert(0, dict(name=path, on=["edge"], path="/" + path, authenticate="none", respond=dict(status=200, body=path)))
            g.start(config); calm = Calm(g); stack.callback(calm.stop); ratio = None
            # The load gets what makes it cost the gateway as much as the attack does, up to the attacker's own half core.
            most, cost = beside(g, calm, "harmless")[1], beside(g, calm, name)[1]; share = SHARE * max(0.02, min(1.0, cost / most))
            for attempt in range(TRIES):
                load, attack = [], []
                for _ in range(TURNS): load.append(beside(g, calm, "harmless", share)); attack.append(beside(g, calm, name)) if g.alive() else None
                if not g.alive(): notes.append("the gateway is gone"); break
                (quiet, quiet_cpu), (p50, cpu) = ([statistics.median(column) for column in zip(*rows)] for rows in (load, attack)); ratio = p50 / quiet
                if ratio <= RATIO: break
                # What it costs once it goes on is not always what it cost at first: the load follows.
                share = max(SHARE * 0.02, min(SHARE, share * cpu / max(quiet_cpu, 0.005)))
            peak = g.peak() // 1024 if g.alive() else None
            if ratio is not None and ratio > RATIO: notes.append(f"p50 {ratio:.2f} times that beside harmless load")
            if peak is not None and peak > bound: notes.append(f"{peak} MB")
            return dict(id=name, verdict="FAIL" if notes else "PASS", notes=notes, p50_harmless_ms=quiet, p50_attack_ms=p50, ratio=ratio, gateway_cpu_harmless=quiet_cpu, gateway_cpu_attack=cpu, peak_mb=peak, bound_mb=bound, tries=attempt + 1)
    finally: backend.kill(); backend.wait()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter); ap.add_argument("--only", default=""); ap.add_argument("--json"); a = ap.parse_args(); results = []
    print(f"{'attack':20}{'p50 ms beside load':>20}{'beside attack':>15}{'ratio':>7}{'CPU of the gateway':>22}{'peak MB':>9}{'bound':>7}")
    for name in attacker.ATTACKS:
        if not re.search(a.only, name): continue
        try: r = measure(name)
        except Exception as e: r = dict(id=name, verdict="FAIL", notes=[f"{type(e).__name__}: {e}"])
        results.append(r)
        if "ratio" in r: print(f"{name:20}{r['p50_harmless_ms']:20.2f}{r['p50_attack_ms']:15.2f}{r['ratio']:7.2f}{r['gateway_cpu_harmless']:12.2f} →{r['gateway_cpu_attack']:8.2f}{r['peak_mb'] or 0:9}{r['bound_mb']:7}  {r['verdict'] if r['verdict'] != 'PASS' else ''}", flush=True)
        else: print(f"{name:20} FAIL {r['notes']}", flush=True)
    totals = collections.Counter(r["verdict"] for r in results)
    if a.json: json.dump(dict(totals=totals, results=results, peak_rss_mb=max((r.get("peak_mb") or 0 for r in results), default=0)), open(a.json, "w"), indent=1)
    return 1 if totals["FAIL"] else 0


if __name__ == "__main__": sys.exit(main())
