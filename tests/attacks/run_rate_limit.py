#!/usr/bin/env python3
"""run_rate_limit.py [--only RX] [--json OUT]: the cases of rate_limit.json, each against a gateway of its own (target/debug/portcullis, or
$PORTCULLIS). Loopback only, each case under 20 s. Needs python3-cryptography and python3-hpack.

The limit is that of the cases, 10 a minute, which gives one back every 6 s: what a case takes is counted for it. The cases about
memory use 10 an hour, `max_keys: 1000` and 20,000 keys instead of 1,000,000. Verdicts: PASS, WARN (a "should" case fails), FAIL, SKIP."""
import argparse, collections, json, os, random, re, signal, socket, ssl, struct, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
HERE = os.path.dirname(os.path.abspath(__file__)); sys.path.insert(0, HERE)
from gateway import ALL, HOST, Gateway, Signer, site
from run_http1 import Backend

LIMITED = "/public/limited"
PEAK = []  # MB, of every gateway that ran


class Lab:
    """A gateway with one limit on everything below /public/limited, and a recording backend."""
    def __init__(self, over="plain", key="address", rate="10/m", policy=ALL, listeners=(), tokens=False, trusted=False, answer=False, **limit):
        self.gateway = Gateway(policy); probe = socket.socket(); probe.bind(("127.0.0.1", 0)); port = probe.getsockname()[1]; probe.close()
        self.backend = Backend(port); config = site(self.gateway, over, f"http://127.0.0.1:{port}"); self.config = config
        for name, bind in listeners: config["listeners"][name] = dict(bind=bind)
        config["limits"] = dict(one=dict(key=key, rate=rate, **limit)); on = list(config["listeners"])
        if trusted:
            for l in config["listeners"].values(): l["trusted_proxies"] = ["127.0.0.1"]
        if tokens:
            self.signer = Signer(); open(self.gateway.path("jwks.json"), "w").write(json.dumps(self.signer.jwks))
            config["identity"] = dict(jwt=dict(staff=dict(issuer="https://idp.test", audience=["gw"], algorithms=["ES256"], jwks=dict(file="jwks.json"))))
        route = dict(name="limited", on=on, path=LIMITED + "/**", authenticate=dict(any=["staff"]) if tokens else "none", limits=["one"])
        route.update(dict(respond=dict(status=200, body="ok")) if answer else dict(upstream="app")); config["routes"] = [route]
        self.gateway.start(config); self.began = time.monotonic(); self.backend.start()

    def __enter__(self): return self
    def __exit__(self, *_):
        PEAK.append(self.gateway.peak() // 1024 if self.gateway.alive() else 0); self.gateway.stop(); self.backend.s.close()

    def arrived(self):
        with self.backend.lock: return len(self.backend.reqs)

    def given_back(self): return int((time.monotonic() - self.began) // 6)

    def send(self, requests, listener="edge", wait=20):
        """Requests, pipelined on one connection; their statuses."""
        s = socket.create_connection(self.gateway.address(listener), timeout=wait); out = b""; heads = []
        threading.Thread(target=lambda: quiet(s.sendall, b"".join(requests)), daemon=True).start()
        try:
            while len(heads) < len(requests):
                d = s.recv(65536)
                if not d: break
                out += d; got, out = responses_whole(out, requests[0].startswith(b"HEAD")); heads += got
        except OSError: pass
        s.close(); return heads

    def each(self, requests, listener="edge"):
        """Requests on a connection each."""
        return [status for r in requests for status in self.send([r], listener)]


def quiet(f, *a):
    try: f(*a)
    except OSError: pass


def responses_whole(b, bodiless=False):
    got = []
    while True:
        i = b.find(b"\r\n\r\n")
        if i < 0: return got, b
        m = re.search(rb"(?i)content-length: *(\d+)", b[:i]); status = int(b[9:12]); n = int(m.group(1)) if m and status >= 200 and not bodiless else 0
        if len(b) < i + 4 + n: return got, b
        if status >= 200: got.append(status)
        b = b[i + 4 + n:]


def get(path=LIMITED, *fields, method="GET"):
    return (f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n" + "".join(f + "\r\n" for f in fields) + ("Content-Length: 0\r\n" if method == "POST" else "") + "\r\n").encode()


def counted(lab, statuses, n=None, allowed=10):
    """At most `allowed` got through, at least one, and the rest was refused."""
    through, arrived, more = sum(s < 400 for s in statuses), lab.arrived(), lab.given_back(); seen = collections.Counter(statuses)
    note = f"{through} allowed, {arrived} arrived, {dict(seen)}" + (f", {more} given back by time" if more else "")
    if max(through, arrived) > allowed + more: return "too many: " + note, note
    if n and len(statuses) < n: return f"only {len(statuses)} of {n} answered", note
    return ("" if through else "none allowed: " + note), note


def by_header(p):
    random_address = lambda: ".".join(str(random.randrange(1, 255)) for _ in range(4)); value = lambda: "for=" + random_address() if p["header"] == "Forwarded" else random_address()
    with Lab() as lab: return counted(lab, lab.each([get(LIMITED, f"{p['header']}: {value()}") for _ in range(p["n"])]), p["n"])


def by_address_spelling(p):
    # Both ways that an address has two spellings: a socket of IPv6 that takes IPv4, and a field of a trusted proxy.
    notes = []
    if os.path.exists("/proc/net/if_inet6") and open("/proc/net/if_inet6").read():
        with Lab(listeners=[("six", "[::]:0")]) as lab:
            bad, note = counted(lab, lab.each([get()] * (p["n"] // 2)) + both(lab, p["n"] // 2), p["n"]); notes.append("sockets: " + note)
            if bad: return bad, note
    with Lab(trusted=True) as lab: bad, note = counted(lab, lab.each([get(LIMITED, "X-Forwarded-For: " + ("192.0.2.7", "::ffff:192.0.2.7", "::ffff:c000:207", "[::ffff:192.0.2.7]:99")[i % 4]) for i in range(p["n"])]))
    return bad, "; ".join(notes + ["fields: " + note])


def both(lab, n):
    """The listener of IPv6, asked over IPv4."""
    out = []
    for _ in range(n):
        s = socket.create_connection(("127.0.0.1", lab.gateway.address("six")[1]), timeout=5); s.sendall(get()); d = s.recv(4096); s.close()
        if d: out.append(int(d[9:12]))
    return out


def by_ipv6_host(p):
    with Lab(trusted=True) as lab: return counted(lab, lab.each([get(LIMITED, "X-Forwarded-For: 2001:db8:1:2:%x:%x:%x:%x" % tuple(random.randrange(65536) for _ in range(4))) for _ in range(p["n"])]), p["n"])


def by_tokens(p):
    with Lab(key="principal", tokens=True) as lab: return counted(lab, lab.each([get(LIMITED, "Authorization: Bearer " + lab.signer.token(jti=str(i % 20))) for i in range(p["n"])]), p["n"])


def by_token_spelling(p):
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    with Lab(key="principal", tokens=True) as lab:
        t = lab.signer.token(); last = alphabet.index(t[-1]); spellings = ["Bearer " + t, "bearer " + t, "BEARER " + t, "Bearer  " + t, "Bearer " + t + "=", "Bearer " + t + "=="]
        spellings += ["Bearer " + t[:-1] + alphabet[(last & ~15) | i] for i in range(16)]  # the unused bits of the last character
        return counted(lab, lab.each([get(LIMITED, "Authorization: " + spellings[i % len(spellings)]) for i in range(p["n"])]))


def by_transport(p):
    with Lab(key="principal", tokens=True) as lab:
        t = lab.signer.token(); sent = [get(LIMITED, "Authorization: Bearer " + t) if i % 2 else get(f"{LIMITED}?access_token={t}") for i in range(p["n"])]; return counted(lab, lab.each(sent))


def by_path(p):
    with Lab() as lab: return counted(lab, lab.each([get(p["paths"][i % len(p["paths"])]) for i in range(p["n"])]))


def by_method(p):
    with Lab() as lab: return counted(lab, lab.each([get(method=p["methods"][i % len(p["methods"])]) for i in range(p["n"])]), allowed=20)


def by_pipeline(p):
    with Lab() as lab: return counted(lab, lab.send([get()] * p["pipeline"]))


def by_rapid_reset(p):
    from hpack import Encoder
    frame = lambda kind, flags, stream, payload=b"": struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
    with Lab(over="tls") as lab:
        x = ssl.create_default_context(); x.check_hostname = False; x.verify_mode = ssl.CERT_NONE; x.set_alpn_protocols(["h2"]); n = p["h2_rapid_reset"]; left = n; connections = 0; deadline = time.monotonic() + 12
        while left > 0 and time.monotonic() < deadline:
            s = x.wrap_socket(socket.create_connection(lab.gateway.address(), timeout=5), server_hostname=HOST); connections += 1; quiet(s.sendall, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)); stream = 1
            try:
                while left > 0:
                    s.sendall(b"".join(frame(1, 5, stream + 2 * i, Encoder().encode([(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", LIMITED)])) + frame(3, 0, stream + 2 * i, struct.pack(">I", 8)) for i in range(50))); stream += 100; left -= 50
            except OSError: pass
            s.close()
        floods = lab.gateway.metric("portcullis_frame_floods_total"); arrived = lab.arrived(); refused = lab.gateway.metric("portcullis_limit_rejections_total"); more = lab.given_back()
        note = f"{n - left} sent on {connections} connections, {floods:.0f} closed as floods by us, {arrived} arrived, {refused:.0f} refused by the limit"
        return ("" if arrived <= 10 + more else "resets evade the limit: " + note), note


def by_window_edge(p):
    # Scaled: two bursts 0.2 s apart, wherever a window would lie; with 100 a minute none is long.
    with Lab(rate="100/m", burst=10) as lab:
        first = lab.send([get()] * 10); time.sleep(0.2); second = lab.send([get()] * 10); through = sum(s < 400 for s in first + second); return ("" if through <= 12 else f"{through} in 0.2 s"), f"{through} in two bursts of 10"


def by_race(p):
    with Lab() as lab:
        with ThreadPoolExecutor(p["concurrency"]) as pool: statuses = [s for got in pool.map(lambda _: lab.send([get()] * (p["n"] // p["concurrency"])), range(p["concurrency"])) for s in got]
        return counted(lab, statuses)


def million(lab, keys, per=500):
    def some(start): return lab.send([get(LIMITED, "X-Forwarded-For: 2001:db8:%x:%x::1" % (i >> 16, i & 65535)) for i in range(start, start + per)])
    with ThreadPoolExecutor(4) as pool: return [s for got in pool.map(some, range(1, keys, per)) for s in got]


def by_keys(p):
    with Lab(rate="10/h", max_keys=1000, trusted=True, answer=True) as lab:
        million(lab, 2000); before = lab.gateway.rss(); statuses = million(lab, 20000); grew = lab.gateway.rss() - before; time.sleep(2); keys = lab.gateway.metric("portcullis_limit_keys{")
        note = f"{len(statuses)} keys asked, {keys:.0f} remembered, RSS {grew:+d} kB"; return ("" if grew < 8192 and keys <= 4096 and lab.gateway.alive() else "not bounded: " + note), note


def by_eviction(p):
    with Lab(rate="10/h", max_keys=1000, trusted=True, answer=True) as lab:
        mine = lambda n: sum(s < 400 for s in lab.send([get(LIMITED, "X-Forwarded-For: 192.0.2.1")] * n)); first = mine(12); million(lab, 20000); after = mine(12)
        return ("" if first == 10 and after <= p.get("allowed_after", 0) else f"{first} before, {after} after 20,000 other keys"), f"{first} before, {after} after 20,000 other keys"


def by_reload(p):
    with Lab() as lab:
        stop = threading.Event(); reloads = 0
        def reload():
            nonlocal reloads
            while not stop.wait(0.1):
                reloads += 1; lab.config["routes"][0]["labels"] = dict(turn=str(reloads)); lab.gateway.configure(lab.config); os.kill(lab.gateway.pid, signal.SIGHUP)
        t = threading.Thread(target=reload); t.start(); statuses = []
        for _ in range(60): statuses += lab.each([get()]); time.sleep(0.05)
        stop.set(); t.join(); generation = lab.gateway.metric("portcullis_config_generation"); bad, note = counted(lab, statuses); return bad or ("" if generation > 5 else f"only generation {generation:.0f}: no reloads"), note + f", {reloads} reloads, generation {generation:.0f}"


def by_denial(p):
    with Lab(policy="forbid(principal, action, resource);") as lab:
        seen = collections.Counter(lab.send([get()] * p["n"])); more = lab.given_back(); return ("" if 0 < seen[403] <= 10 + more and not lab.arrived() else f"{dict(seen)}"), f"{dict(seen)}"


def by_upload(p):
    with Lab() as lab:
        lab.each([get()] * (p["n"] - 1)); before = lab.arrived(); s = socket.create_connection(lab.gateway.address(), timeout=8); out = b""; sent = 0
        try:
            s.sendall(f"POST {LIMITED} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {p['body']}\r\n\r\n".encode()); piece = get(LIMITED + "/smuggled") * 200
            for _ in range(p["body"] // len(piece)): s.sendall(piece); sent += len(piece)
        except OSError: pass
        try:
            while len(out) < 65536:
                d = s.recv(65536)
                if not d: break
                out += d
        except OSError: pass
        s.close(); time.sleep(0.2); arrived = lab.arrived() - before; statuses = re.findall(rb"HTTP/1\.1 (\d\d\d)", out); more = lab.given_back()
        note = f"{statuses[:3]}, {sent} of {p['body']} bytes taken, {arrived} more at the backend"; bad = arrived or len(statuses) > 1 or statuses and statuses[0] != b"429" or sent > p["body"] // 2
        return ("the body is read on: " + note if bad else ""), note


def driver(p):
    if "header" in p: return by_header
    for key, run in dict(source_addresses=by_address_spelling, ipv6_hosts=by_ipv6_host, api_key=by_transport, paths=by_path, methods=by_method, pipeline=by_pipeline, h2_rapid_reset=by_rapid_reset, bursts=by_window_edge, concurrency=by_race,
                         distinct_keys=by_keys, eviction_probe=by_eviction, requests=by_denial, body=by_upload).items():
        if key in p: return run
    if "jwt" in p: return by_token_spelling if "spelling" in p["jwt"] else by_tokens
    if p.get("action", "").startswith("reload"): return by_reload


SKIPPED = {"RL-25": "upgrades are counted as the requests that they are", "RL-28": "buckets know no wall clock: crates/limit (MonotonicClock)", "RL-34": "there is no shared store"}


def run_case(case):
    began = time.monotonic(); run = driver(case["params"])
    if case["id"] in SKIPPED: out = dict(verdict="SKIP", notes=[SKIPPED[case["id"]]])
    else:
        try: bad, note = run(case["params"]); out = dict(verdict="PASS" if not bad else "WARN" if case["level"] == "should" else "FAIL", notes=[bad or note])
        except Exception as e: out = dict(verdict="FAIL", notes=[f"driver: {type(e).__name__}: {e}"])
    out = dict(id=case["id"], **{"class": case["class"]}, **out, secs=round(time.monotonic() - began, 1)); print(f"{out['verdict']:4} {out['id']:6} {case['why'][:60]:60} {'; '.join(out['notes'])[:140]}", flush=True); return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter); ap.add_argument("--only", default=""); ap.add_argument("--json"); ap.add_argument("--parallel", type=int, default=3); a = ap.parse_args()
    cases = [c for c in json.load(open(os.path.join(HERE, "rate_limit.json")))["cases"] if re.search(a.only, c["id"] + " " + c["class"])]
    with ThreadPoolExecutor(a.parallel) as pool: results = list(pool.map(run_case, cases))
    totals = collections.Counter(r["verdict"] for r in results); print(len(results), "cases", dict(totals))
    if a.json: json.dump(dict(totals=totals, peak_rss_mb=max(PEAK, default=0), results=results), open(a.json, "w"), indent=1)
    return 1 if totals["FAIL"] else 0


if __name__ == "__main__": sys.exit(main())
