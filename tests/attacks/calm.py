#!/usr/bin/env python3
"""calm.py HOST:PORT plain|tls: a well-behaved client that asks /calm 50 times a second. Prints its p50 in ms over a second, then, when a line comes
on standard input, its p50 since. With `turns` it goes on: a p50 for each line. Loopback only."""
import select, socket, ssl, sys, time
host, _, port = sys.argv[1].rpartition(":"); assert host in ("127.0.0.1", "localhost", "::1")


def connect():
    s = socket.create_connection((host, int(port)), timeout=10); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.argv[2] == "tls":
        x = ssl.create_default_context(); x.check_hostname = False; x.verify_mode = ssl.CERT_NONE; s = x.wrap_socket(s, server_hostname="gw.test")
    return s


def p50(until):
    times, s = [], connect()
    while not (times and until()):
        began = time.perf_counter()
        try:
            s.sendall(b"GET /calm HTTP/1.1\r\nHost: gw.test\r\n\r\n"); d = s.recv(4096)
            if not d.startswith(b"HTTP/1.1 200"): raise OSError("not served")
            times.append(time.perf_counter() - began)
        except OSError:
            times.append(10.0); s = connect()
        time.sleep(0.02)
    times.sort(); return "%.2f" % (times[len(times) // 2] * 1000) if times else "-"


if sys.argv[3:] == ["turns"]:
    while True: print(p50(lambda: select.select([sys.stdin], [], [], 0)[0] and sys.stdin.buffer.raw.read(1)), flush=True)
end = time.monotonic() + 1; print(p50(lambda: time.monotonic() > end), flush=True); print(p50(lambda: select.select([sys.stdin], [], [], 0)[0]), flush=True)
