#!/usr/bin/env python3
"""run_faults.py [--only RX] [--json OUT]: what a well-behaved client of one upstream notices when another upstream fails: its p50 beside RATE requests a second to the other one, which
is well in one turn and has the fault in the next. The load is the same in both (so many requests begin, whatever becomes of those before), so that the ratio
shows the fault and not the load. Both upstreams are served by the same cores; the load comes without TLS, since a client whose answer was cut comes anew, and its handshake is
no fault of the upstream's (run_beside.py has handshakes); the ratio is the median of the rounds'. The faulty one has one address, no other place to go to. FAIL: a ratio above 1.2 that stays above
it in three tries, a fault that nobody noticed on its own route, or a gateway that is gone. Loopback only; needs python3-cryptography."""
import argparse, collections, contextlib, json, os, re, signal, socket, statistics, subprocess, sys, threading, time
HERE = os.path.dirname(os.path.abspath(__file__)); sys.path.insert(0, HERE)
from gateway import ALL, Gateway, site
from run_beside import Calm
RATE, TURN, SETTLE, TURNS, TRIES, RATIO = 100, 2.0, 0.7, 5, 3, 1.2
FAULTS = ["dead", "slow", "flapping", "half_open", "dying", "dns"]


class Names(threading.Thread):
    """A name server whose every name has these addresses for a second; none is a failure (RFC 1035 section 4; UDP)."""
    def __init__(self): super().__init__(daemon=True); self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); self.socket.bind(("127.0.0.1", 0)); self.addresses = ["127.0.0.2"]; self.asked = 0; self.start()

    def run(self):
        while True:
            query, client = self.socket.recvfrom(512); self.asked += 1; at = 12
            while query[at]: at += 1 + query[at]
            question, kind = query[12:at + 5], query[at + 2]; records = [socket.inet_aton(a) for a in self.addresses] if kind == 1 else []
            code = 0 if self.addresses else 2
            self.socket.sendto(query[:2] + bytes([0x85, 0x80 | code, 0, 1, 0, len(records), 0, 0, 0, 0]) + question + b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + r for r in records), client)


class Child:
    def __init__(self, *command): self.child = subprocess.Popen([sys.executable, os.path.join(HERE, "faulty.py"), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    def say(self, line): self.child.stdin.write(line + "\n"); self.child.stdin.flush(); return self.child.stdout.readline().strip()
    def stop(self): self.child.kill(); self.child.wait()


@contextlib.contextmanager
def fault(name, b, names):
    """The other upstream has it meanwhile."""
    over = threading.Event()
    def changing():
        turns = [["127.0.0.3"], ["127.0.0.4"], [], ["127.0.0.2", "127.0.0.3"], ["127.0.0.2"]]; n = 0  # nobody listens on .4
        while not over.is_set(): names.addresses = turns[n % len(turns)]; n += 1; over.wait(0.5)
        names.addresses = ["127.0.0.2"]
    thread = threading.Thread(target=changing)
    if name == "half_open": b.child.send_signal(signal.SIGSTOP)  # its connections stay, and new ones are made; nobody answers or closes
    elif name == "dns": thread.start()
    else: b.say(name)
    try: yield
    finally:
        over.set()
        if name == "half_open": b.child.send_signal(signal.SIGCONT)
        elif name == "dns": thread.join()
        else: b.say("answer")


def turn(calm, load):
    """The calm client's p50, what became of the load, and how long the cores were somebody else's."""
    time.sleep(SETTLE); load.say(""); calm.turn(); time.sleep(TURN); return calm.turn(), collections.Counter(json.loads(load.say("")))


def configuration(g, name, a, b, names):
    config = site(g, "tls", f"http://127.0.0.1:{a}"); other = dict(endpoints=[f"http://{'b.test' if name == 'dns' else '127.0.0.2'}:{b}"], timeouts=dict(connect="1s", response="2s"))
    if name == "dns": other["dns"] = dict(servers=["127.0.0.1:%d" % names.socket.getsockname()[1]])
    config["upstreams"]["b"] = other; config["listeners"]["load"] = dict(bind="127.0.0.1:0"); config["routes"].insert(0, dict(name="b", on=["load"], path="/b", authenticate="none", upstream="b")); return config


def measure(name):
    names = Names()
    with Gateway(ALL) as g, contextlib.ExitStack() as stack:
        def child(*command): c = Child(*command); stack.callback(c.stop); return c
        a, b = child("backend", "127.0.0.1"), child("backend", "127.0.0.2", "127.0.0.3"); ports = [int(c.child.stdout.readline()) for c in (a, b)]
        g.start(configuration(g, name, *ports, names)); load = child("load", "%s:%d" % g.address("load"), str(RATE)); calm = Calm(g); stack.callback(calm.stop); time.sleep(1); notes = []; asked = names.asked
        for attempt in range(TRIES):
            rounds = []
            for _ in range(TURNS):
                well, good = turn(calm, load)
                with fault(name, b, names): ill, bad = turn(calm, load)
                rounds.append((well, ill, good, bad))
            well, ill = (statistics.median(column) for column in list(zip(*rounds))[:2]); good, bad = (sum(column, collections.Counter()) for column in list(zip(*rounds))[2:])
            ratio = statistics.median(b / a for a, b, _, _ in rounds)  # of turns beside each other: what else this machine does changes slowly
            if ratio <= RATIO or not g.alive(): break
        if not g.alive(): notes.append("the gateway is gone")
        if ratio > RATIO: notes.append(f"p50 {ratio:.2f} times that beside a healthy upstream")
        if not good["200"]: notes.append(f"the other upstream was never well: {dict(good)}")
        # Names that change are to be noticed by nobody; that the gateway asked again is what shows the fault.
        seen = names.asked - asked > TURNS if name == "dns" else good["200"] > bad["200"]
        if not seen: notes.append(f"the fault was not seen: {dict(good)} → {dict(bad)}")
        return dict(id=name, verdict="FAIL" if notes else "PASS", notes=notes, p50_well_ms=well, p50_fault_ms=ill, ratio=ratio, load_well=dict(good), load_fault=dict(bad), peak_mb=g.peak() // 1024 if g.alive() else None, tries=attempt + 1)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter); ap.add_argument("--only", default=""); ap.add_argument("--json"); a = ap.parse_args(); results = []
    print(f"{'fault':12}{'p50 ms, other upstream well':>30}{'with the fault':>16}{'ratio':>7}{'tries':>7}  what became of {RATE} requests a second to the other one")
    for name in FAULTS:
        if not re.search(a.only, name): continue
        try: r = measure(name)
        except Exception as e: r = dict(id=name, verdict="FAIL", notes=[f"{type(e).__name__}: {e}"])
        results.append(r)
        if "ratio" in r: print(f"{name:12}{r['p50_well_ms']:30.2f}{r['p50_fault_ms']:16.2f}{r['ratio']:7.2f}{r['tries']:7}  {r['load_well']} → {r['load_fault']}  {'; '.join(r['notes'])}", flush=True)
        else: print(f"{name:12} FAIL {r['notes']}", flush=True)
    totals = collections.Counter(r["verdict"] for r in results)
    if a.json: json.dump(dict(totals=totals, results=results, peak_rss_mb=max((r.get("peak_mb") or 0 for r in results), default=0)), open(a.json, "w"), indent=1)
    return 1 if totals["FAIL"] else 0


if __name__ == "__main__": sys.exit(main())
