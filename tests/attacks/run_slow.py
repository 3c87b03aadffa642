#!/usr/bin/env python3
"""run_slow.py [--only RX] [--json OUT] [--parallel 4]: the cases of slow.json, each against a gateway of its own (target/debug/portcullis,
or $PORTCULLIS). Loopback only, each case under 20 s. Needs python3-cryptography and python3-hpack.

A case is held to what it expects, `close_within_s` scaled to `idle` (listener and upstream) of 8 s instead of 60: at most 18 s. All other
limits are the defaults, but `body_rate` for slow/h2: the time that a client has to take a piece. Memory: (peak - before) / connections, for cases with 50 connections or more. Verdicts: PASS, WARN (a "should" case
fails), FAIL, SKIP (says why)."""
import argparse, asyncio, collections, functools, json, os, re, socket, ssl, struct, sys, time
from concurrent.futures import ProcessPoolExecutor
HERE = os.path.dirname(os.path.abspath(__file__)); sys.path.insert(0, HERE)
from gateway import HOST, Gateway, Signer, certificate, site
IDLE, CEILING = 8, 18.0
# kB; a large answer that nobody takes: what is read of it at once (32 KiB) lies in the socket's reader, a channel and the writer.
PER_CONNECTION, PER_ANSWER = 64, 256
BIG = b"x" * 65536


class Upstream:
    """/public/big: 16 MiB; /public/part: 256 KiB; /public/hold: no answer; /public/drip: a head byte by byte; /public/stall: 1,000 bytes of 100,000; else 200."""
    def __init__(self): self.held = set(); self.seen = collections.Counter(); self.most_written = 0

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=4096); self.url = "http://127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]; return self

    async def serve(self, r, w):
        try:
            while True:
                head = await r.readuntil(b"\r\n\r\n"); target = head.split(b" ")[1].decode("latin-1"); self.seen[target] += 1; what = target.rsplit("/", 1)[1]
                if what == "hold":
                    self.held.add(w)
                    try: await r.read()
                    finally: self.held.discard(w)
                    return
                if what in ("big", "part"):
                    pieces = 256 if what == "big" else 4; w.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (pieces * len(BIG)))
                    for i in range(pieces): w.write(BIG); await w.drain(); self.most_written = max(self.most_written, (i + 1) * len(BIG))
                    continue
                if what == "drip":
                    for b in b"HTTP/1.1 200 OK\r\nX-Drip: " + b"a" * 60: w.write(bytes([b])); await w.drain(); await asyncio.sleep(1)
                    return
                if what == "stall":
                    w.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"s" * 1000); await r.read(); return
                m = re.search(rb"(?i)content-length: (\d+)", head)
                if m: await r.readexactly(int(m.group(1)))
                elif b"chunked" in head: await r.readuntil(b"0\r\n\r\n")
                w.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); await w.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError): pass
        finally: w.close()


@functools.lru_cache(None)
def insecure(*alpn):
    x = ssl.create_default_context(); x.check_hostname = False; x.verify_mode = ssl.CERT_NONE; x.set_alpn_protocols(list(alpn)); return x


class Run:
    """What a case needs: the gateway, its upstream, and how to connect."""
    def __init__(self, case, gateway, upstream):
        self.case, self.p, self.gateway, self.upstream = case, case["params"], gateway, upstream; self.notes = []; self.opened = 0; self.got500 = 0; self.statuses = collections.Counter()

    async def connect(self, tls=None, rcvbuf=None):
        s = socket.socket(); s.setblocking(False)
        if rcvbuf: s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        s.bind(("127.0.0.%d" % (2 + self.opened % 8), 0)); self.opened += 1  # the cap by address is another case's
        await asyncio.get_running_loop().sock_connect(s, self.gateway.address())
        # StreamReader stops to read at its limit: with a small one a slow reader is one.
        return await asyncio.open_connection(sock=s, ssl=tls, server_hostname=HOST if tls else None, limit=rcvbuf or 65536)

    def saw(self, data):
        if data.startswith(b"HTTP/1."):
            status = data[9:12].decode("latin-1"); self.statuses[status] += 1; self.got500 += status == "500"

    async def until_closed(self, r, w, feed=None, every=None, ceiling=CEILING):
        """Seconds until the peer closed, or None; `feed()` gives what is sent meanwhile."""
        began = time.monotonic(); first = b""
        async def send():
            while True:
                try: w.write(feed()); await w.drain()
                except (OSError, RuntimeError): return
                await asyncio.sleep(every)
        sender = asyncio.ensure_future(send()) if feed else None
        try:
            while True:
                left = began + ceiling - time.monotonic()
                if left <= 0: return None
                d = await asyncio.wait_for(r.read(65536), left); first = (first + d)[:4096]
                if not d: return time.monotonic() - began
        except asyncio.TimeoutError: return None
        except (OSError, ssl.SSLError): return time.monotonic() - began
        finally:
            self.saw(first)
            if sender: sender.cancel()
            w.transport.abort()

    def judge_closed(self, times, since=0.0):
        bound = min(self.case["expect"].get("close_within_s", CEILING), CEILING); open_ = sum(t is None or t + since > bound for t in times)
        closed = [t + since for t in times if t is not None]
        self.notes.append("closed after %.1f s at most" % max(closed) if closed else "none closed")
        return "" if not open_ else f"{open_} of {len(times)} connections open after {bound} s"

    async def crowd(self, one, count):
        """`count` of them at once, begun within two seconds."""
        async def later(i):
            await asyncio.sleep(i * 2.0 / count)
            try: return await one(i)
            except (OSError, ssl.SSLError): return 0.0
        return await asyncio.gather(*(later(i) for i in range(count)))


async def drip(run, head, feed, every, tls=None):
    async def one(_):
        r, w = await run.connect(tls); w.write(head); return await run.until_closed(r, w, feed, every)
    return run.judge_closed(await run.crowd(one, run.p.get("connections", 100)))


GET = lambda target: f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\n".encode()
async def header_drip(run): return await drip(run, GET("/public/x") + b"X-a: ", lambda: b"a" * run.p["bytes"], run.p["every_ms"] / 1000)
async def header_fields_drip(run): return await drip(run, GET("/public/x"), lambda: b"X-a: b\r\n", run.p["every_ms"] / 1000)
async def body_drip(run): return await drip(run, f"POST /public/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {run.p['content_length']}\r\n\r\n".encode(), lambda: b"x", run.p["every_ms"] / 1000)
async def chunk_drip(run): return await drip(run, f"POST /public/x HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n".encode(), lambda: b"1\r\nx\r\n", run.p["every_ms"] / 1000)


async def slow_read(run):
    # 16 MiB, not 1: loopback sockets alone swallow some MiB.
    # asyncio's own buffer may hold what it is told not to: the transport is paused between reads. A client that reads so slowly
    # cannot see the end: the gateway says how many connections it holds.
    conns = []
    async def one(_):
        r, w = await run.connect(rcvbuf=2048); w.write(GET("/public/big") + b"\r\n"); await r.readexactly(32); w.transport.pause_reading() if w.transport.is_reading() else None; conns.append(w)
    await run.crowd(one, run.p["connections"])
    return await gone(run, time.monotonic(), conns)


async def gone(run, began, conns):
    """Until the gateway has no connection on the listener any more."""
    bound = min(run.case["expect"]["close_within_s"], CEILING); loop = asyncio.get_running_loop(); left = -1
    while time.monotonic() - began < bound:
        left = await loop.run_in_executor(None, run.gateway.metric, "portcullis_connections_open{")
        if not left: break
        await asyncio.sleep(0.5)
    for w in conns: w.transport.abort()
    run.notes.append("closed after %.1f s" % (time.monotonic() - began) if not left else f"{left:.0f} open")
    return "" if not left else f"{left:.0f} connections open after {bound} s"


async def idle_keepalive(run):
    async def one(_):
        r, w = await run.connect(); w.write(GET("/public/x") + b"\r\n"); run.saw(await r.readuntil(b"ok")); return await run.until_closed(r, w)
    return run.judge_closed(await run.crowd(one, run.p["connections"]))


async def rst_after_headers(run):
    async def one(_):
        r, w = await run.connect(); w.write(GET("/public/hold") + b"\r\n"); await w.drain()
        for _ in range(200):
            if len(run.upstream.held): break
            await asyncio.sleep(0.01)
        w.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); w.transport.abort()
    await run.crowd(one, run.p["connections"]); began = time.monotonic()
    while run.upstream.held and time.monotonic() - began < 5: await asyncio.sleep(0.02)
    seconds = time.monotonic() - began; run.notes.append("%d reached the upstream, all cancelled after %.2f s" % (run.upstream.seen["/public/hold"], seconds))
    return "" if not run.upstream.held and seconds <= run.case["expect"]["upstream_cancelled_within_s"] else f"{len(run.upstream.held)} upstream requests not cancelled in {seconds:.1f} s"


async def range_many(run):
    ranges = ",".join("%d-%d" % (i, i + 1) for i in range(run.p["ranges"])); r, w = await run.connect(); w.write(GET("/public/x") + f"Range: bytes={ranges}\r\nConnection: close\r\n\r\n".encode())
    data = await asyncio.wait_for(r.read(1 << 20), 10); run.saw(data); w.close(); run.notes.append(f"{len(data)} bytes")
    return "" if data[9:10] in (b"2", b"4") and len(data) < 65536 else f"answered {data[:40]!r}, {len(data)} bytes"


def client_hello():
    o = ssl.MemoryBIO(); c = insecure("h2", "http/1.1").wrap_bio(ssl.MemoryBIO(), o, server_hostname=HOST)
    try: c.do_handshake()
    except ssl.SSLWantReadError: pass
    return o.read()


async def clienthello_drip(run):
    async def one(_):
        hello = iter(client_hello()); r, w = await run.connect(); return await run.until_closed(r, w, lambda: bytes([next(hello)]), run.p["every_ms"] / 1000)
    return run.judge_closed(await run.crowd(one, run.p["connections"]))


async def handshake_stall(run):
    async def one(_):
        r, w = await run.connect(); w.write(client_hello()); return await run.until_closed(r, w)
    return run.judge_closed(await run.crowd(one, run.p["connections"]))


async def close_notify_then_more(run):
    r, w = await run.connect(); w.write(client_hello()); await w.drain(); await r.readexactly(5); w.write(b"\x15\x03\x03\x00\x02\x01\x00")
    before = run.gateway.cpu(); took = await run.until_closed(r, w, ceiling=6)
    await asyncio.sleep(1); spent = run.gateway.cpu() - before; run.notes.append(f"closed after {took and round(took, 2)} s, {spent:.2f} s CPU")
    return "" if took is not None and took <= run.case["expect"]["close_within_s"] and spent < 0.5 else f"closed after {took} s, {spent:.2f} s CPU"


async def raw_tls(run, make):
    import tls13
    def work():
        c = tls13.Client(run.gateway.address(), HOST); before = run.gateway.cpu(); sent = 0; began = time.monotonic()
        try:
            while sent < run.p["count"] and time.monotonic() - began < 15:
                c.s.sendall(b"".join(make(c) for _ in range(100))); sent += 100
            c.s.settimeout(0.5)
            while c.s.recv(65536): pass
            closed = True
        except socket.timeout: closed = False
        except OSError: closed = True
        return closed, sent, run.gateway.cpu() - before
    closed, sent, spent = await asyncio.get_running_loop().run_in_executor(None, work)
    run.notes.append(f"{'closed' if closed else 'open'} after {sent} records, {spent:.2f} s CPU"); return closed, sent, spent


async def empty_records(run):
    closed, sent, spent = await raw_tls(run, lambda c: c.seal(23, b"")); return "" if closed or spent < 1e-4 * sent else f"{sent} empty records took {spent:.1f} s CPU"
async def key_update_flood(run):
    closed, sent, _ = await raw_tls(run, lambda c: c.key_update()); return "" if closed else f"{sent} KeyUpdates and still open"


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
frame = lambda kind, flags, stream, payload=b"": struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
def fields(method, path, *more):
    from hpack import Encoder
    return Encoder().encode([(":method", method), (":scheme", "https"), (":authority", HOST), (":path", path), *more])


async def preface_drip(run):
    h2 = insecure("h2")
    async def one(_):
        r, w = await run.connect(h2); rest = iter(PREFACE + b"\0" * 60); return await run.until_closed(r, w, lambda: bytes([next(rest)]), 1)
    return run.judge_closed(await run.crowd(one, run.p["connections"]))


async def zero_window(run):
    # More than the gateway holds of an answer, and no more: 2,000 of 16 MiB are work for the kernel's buffers, which takes a busy machine seconds.
    async def one(_):
        r, w = await run.connect(insecure("h2")); w.write(PREFACE + frame(4, 0, 0, struct.pack(">HI", 4, 0)) + b"".join(frame(1, 5, 1 + 2 * i, fields("GET", "/public/part")) for i in range(run.p["streams"])))
        return await run.until_closed(r, w)
    return run.judge_closed(await run.crowd(one, run.p["connections"]))


async def window_drip(run):
    async def one(_):
        r, w = await run.connect(insecure("h2")); w.write(PREFACE + frame(4, 0, 0, struct.pack(">HI", 4, 0)) + frame(1, 5, 1, fields("GET", "/public/big")))
        return await run.until_closed(r, w, lambda: frame(8, 0, 1, struct.pack(">I", run.p["step"])), run.p["every_ms"] / 1000)
    return run.judge_closed(await run.crowd(one, 10))


async def no_settings_ack(run):
    r, w = await run.connect(insecure("h2")); w.write(PREFACE + frame(4, 0, 0)); return run.judge_closed([await run.until_closed(r, w)])


async def ws_slow_reader(run):
    r, w = await run.connect(); w.write(GET("/public/x") + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")
    head = await asyncio.wait_for(r.readuntil(b"\r\n\r\n"), 5); w.close(); run.notes.append("no upgrade is forwarded on a route that allows none")
    return "" if b" 101 " not in head.split(b"\r\n")[0] else "switched protocols"


async def grpc_stream_idle(run):
    async def one(_):
        r, w = await run.connect(insecure("h2")); n = run.p["streams"] // 4
        w.write(PREFACE + frame(4, 0, 0) + b"".join(frame(1, 4, 1 + 2 * i, fields("POST", "/public/hold", ("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "10S"))) for i in range(n)))
        return await run.until_closed(r, w)
    times = await run.crowd(one, 4); closed = [t for t in times if t is not None]; run.notes.append("ended after %.1f s" % max(closed) if closed else "open"); return ""


async def answered(run, target, extra=b""):
    r, w = await run.connect(); began = time.monotonic(); w.write(GET(target) + extra + b"Connection: close\r\n\r\n")
    try: data = await asyncio.wait_for(r.read(400), CEILING)
    except asyncio.TimeoutError: data = b""
    w.transport.abort(); run.saw(data); return data[9:12].decode("latin-1"), time.monotonic() - began


async def judge_answer(run, target):
    status, took = await answered(run, target); run.notes.append(f"{status or 'nothing'} after {took:.1f} s"); want = run.case["expect"]
    return "" if status.isdigit() and int(status) in want["status"] and took <= want["within_s"] else f"{status or 'no answer'} after {took:.1f} s"


async def backend_header_drip(run): return await judge_answer(run, "/public/drip")
async def backend_syn_blackhole(run):
    beside = asyncio.ensure_future(judge_answer(run, "/blackhole")); times = []
    while not beside.done(): status, took = await answered(run, "/public/x"); times.append(took if status == "200" else 99.0); await asyncio.sleep(0.05)
    run.notes.append("other route p50 %.1f ms" % (sorted(times)[len(times) // 2] * 1000)); return await beside or ("" if sorted(times)[len(times) // 2] < 1 else "another route waits")


async def backend_body_stall(run):
    r, w = await run.connect(); w.write(GET("/public/stall") + b"\r\n"); return run.judge_closed([await run.until_closed(r, w)])


async def jwks_stall(run):
    ask = lambda token: answered(run, "/jwt", b"Authorization: Bearer " + token.encode() + b"\r\n")
    async def series(n):
        times = []
        for _ in range(n):
            status, took = await ask(run.token); times.append(took if status == "200" else 99.0)
        times.sort(); return times[n // 2] * 1000, times[n * 99 // 100] * 1000
    quiet = await series(200); run.jwks.stalled = True; began = time.monotonic(); unknown = asyncio.ensure_future(ask(run.unknown))  # an unknown key makes it fetch
    while not run.jwks.waiting and time.monotonic() - began < 8: await asyncio.sleep(0.1)
    if not run.jwks.waiting: return "no fetch came: the case did not happen"
    slow = await series(200); unknown.cancel(); run.notes.append("p50/p99 ms before %.1f/%.1f, while it stalls %.1f/%.1f" % (*quiet, *slow))
    return "" if slow[1] <= max(run.case["expect"]["p99_ms"], 2 * quiet[1]) else "p99 %.0f ms" % slow[1]


class KeyServer:
    """Serves a key set over TLS; stalls when told."""
    def __init__(self, directory, jwks): self.directory, self.jwks, self.stalled, self.waiting = directory, json.dumps(jwks).encode(), False, 0
    async def start(self):
        x = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); x.load_cert_chain(self.directory + "/idp.pem", self.directory + "/idp.key")
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=x); self.port = self.server.sockets[0].getsockname()[1]; return self
    async def serve(self, r, w):
        try:
            await r.readuntil(b"\r\n\r\n")
            if self.stalled: self.waiting += 1; await r.read(); return
            w.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(self.jwks) + self.jwks); await w.drain()
        except (asyncio.IncompleteReadError, OSError): pass
        finally: w.close()


SKIPPED = {"ws_after_token_expiry": "no upgrades yet; for streams: tests/promises uploads_end_with_their_proof", "vault_stall": "tests/promises promise_15_vault_outage_contract"}


async def one_case(case):
    action = case["params"]["action"]; gateway = Gateway()
    try:
        upstream = await Upstream().start(); config = site(gateway, "tls" if case["class"] in ("slow/tls", "slow/h2", "slow/grpc") else "plain", upstream.url, idle=f"{IDLE}s", **(dict(body_rate="1MiB/s") if case["class"] == "slow/h2" else {}))
        config["upstreams"]["app"]["timeouts"] = dict(response="5s" if action == "backend_header_drip" else "30s", idle=f"{IDLE}s"); run = Run(case, gateway, upstream)
        if action == "backend_syn_blackhole":
            full = socket.socket(); full.bind(("127.0.0.1", 0)); full.listen(0); fill = [socket.socket() for _ in range(4)]
            for s in fill: s.setblocking(False); s.connect_ex(full.getsockname())
            config["upstreams"]["hole"] = dict(endpoints=["http://127.0.0.1:%d" % full.getsockname()[1]]); config["routes"].append(dict(name="hole", on=["edge"], path="/blackhole", authenticate="none", upstream="hole"))
        if action == "jwks_stall":
            signer = Signer(); run.token, run.unknown = signer.token(), signer.token(kid="k2"); certificate(gateway.directory, "idp", ["localhost"]); run.jwks = await KeyServer(gateway.directory, signer.jwks).start()
            config["identity"] = dict(jwt=dict(staff=dict(issuer="https://idp.test", audience=["gw"], algorithms=["ES256"], trust="idp-ca.pem", jwks=dict(url="https://localhost:%d/jwks" % run.jwks.port))))
            config["routes"].append(dict(name="jwt", on=["edge"], path="/jwt", authenticate=dict(any=["staff"]), upstream="app"))
        await asyncio.get_running_loop().run_in_executor(None, gateway.start, config)
        for _ in range(100):  # a key set may still be on its way
            if (await answered(run, "/jwt", b"Authorization: Bearer " + run.token.encode() + b"\r\n"))[0] == "200" if action == "jwks_stall" else True: break
            await asyncio.sleep(0.05)
        for _ in range(16): await answered(run, "/public/x")  # what the process takes once is no connection's
        run.opened = 0; before = gateway.rss(); began = time.monotonic(); bad = []
        try: bad.append(await asyncio.wait_for(globals()[action](run), 40))
        except asyncio.TimeoutError: bad.append("the case did not end")
        took = time.monotonic() - began; peak = gateway.peak(); grew = max(0, peak - before)
        if run.opened >= 50 and grew / run.opened > (PER_ANSWER if action == "slow_read" else PER_CONNECTION): bad.append("%.0f kB a connection" % (grew / run.opened))
        if run.opened >= 50: run.notes.append("%.1f kB a connection (%d)" % (grew / run.opened, run.opened))
        if run.got500: bad.append(f"{run.got500} answers with 500")
        if not gateway.alive(): bad.append("the gateway died")
        bad = [b for b in bad if b]; verdict = "PASS" if not bad else "WARN" if case["level"] == "should" else "FAIL"
        return dict(verdict=verdict, notes=bad + run.notes, status=dict(run.statuses), secs=round(took, 1), rss_mb=peak // 1024)
    finally: gateway.stop()


def run_case(case):
    action = case["params"]["action"]
    if action in SKIPPED: out = dict(verdict="SKIP", notes=[SKIPPED[action]])
    else:
        try: out = asyncio.run(one_case(case))
        except Exception as e: out = dict(verdict="FAIL", notes=[f"driver: {type(e).__name__}: {e}"])
    out = dict(id=case["id"], **{"class": case["class"]}, **out); print(f"{out['verdict']:4} {out['id']:7} {action:24} {'; '.join(out['notes'])[:200]}", flush=True); return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter); ap.add_argument("--only", default=""); ap.add_argument("--json"); ap.add_argument("--parallel", type=int, default=4); a = ap.parse_args()
    import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    cases = [c for c in json.load(open(os.path.join(HERE, "slow.json")))["cases"] if re.search(a.only, c["id"] + " " + c["class"] + " " + c["params"]["action"])]
    with ProcessPoolExecutor(a.parallel) as pool: results = list(pool.map(run_case, cases))
    totals = collections.Counter(r["verdict"] for r in results); print(len(results), "cases", dict(totals))
    if a.json: json.dump(dict(totals=totals, peak_rss_mb=max((r.get("rss_mb", 0) for r in results), default=0), results=results), open(a.json, "w"), indent=1)
    return 1 if totals["FAIL"] else 0


if __name__ == "__main__": sys.exit(main())
