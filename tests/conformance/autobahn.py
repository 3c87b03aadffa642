"""Autobahn's TestSuite against an echo server (PyPI: websockets), directly and through the gateway: over HTTP/1.1, and over HTTP/2 (RFC 8441, TLS; HAProxy
turns the client's HTTP/1.1 into it). Judged are the cases that pass directly. wstest itself wants Python 2, which this machine's registries do not
have; its case files are run by kosoku (PyPI), which is made for that. What cannot be installed is SKIPPED, loudly. AUTOBAHN=all also runs the large
cases of compression (12.*, 13.* from the ninth on), for minutes. `autobahn.py [h1|h2]` runs one way alone."""
import json, os, shutil, socket, subprocess, sys, tempfile, threading, time, venv
HERE = os.path.dirname(os.path.abspath(__file__)); ROOT = os.path.dirname(os.path.dirname(HERE))
sys.dont_write_bytecode = True; sys.path.insert(0, os.path.join(ROOT, "tests/attacks"))
from gateway import Gateway, HOST, certificate
PACKAGES = ["kosoku==0.1.0", "websockets==17.4"]
LARGE = [f"{group}.*.{n}" for group in (12, 13) for n in range(9, 19)]
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
ECHO = """
import asyncio
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
async def echo(socket):
    try:
        async for message in socket: await socket.send(message)
    except ConnectionClosed: pass
async def main():
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server: print(server.sockets[0].getsockname()[1], flush=True); await server.serve_forever()
asyncio.run(main())
"""
HAPROXY = """
global
    maxconn 64
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
frontend in
    bind 127.0.0.1:%d
    default_backend gateway
backend gateway
    server gateway 127.0.0.1:%d ssl verify none sni str(%s) alpn h2 ws h2
"""


class Missing(Exception):
    """Autobahn cannot be installed here."""


def programs():
    """The directory of kosoku and of the Python that has websockets, installed from PyPI into target/tools/autobahn once."""
    home = os.path.join(ROOT, "target/tools/autobahn")
    if not os.path.exists(os.path.join(home, "bin/kosoku")):
        shutil.rmtree(home, ignore_errors=True)
        try: venv.create(home, with_pip=True)
        except subprocess.SubprocessError as error: raise Missing(f"no Python of its own: {error}")
        done = subprocess.run([os.path.join(home, "bin/pip"), "install", "-q", "--disable-pip-version-check", *PACKAGES], capture_output=True, text=True)
        if done.returncode: shutil.rmtree(home, ignore_errors=True); raise Missing(f"pip cannot install {' '.join(PACKAGES)}: {done.stderr.strip().splitlines()[-1:]}")
    return os.path.join(home, "bin")


def verdicts(bin, port, directory, cases=None):
    """Each case's two verdicts, on the messages and on the close."""
    report = os.path.join(directory, str(port)); more = [] if os.environ.get("AUTOBAHN") == "all" else [a for c in LARGE for a in ("-x", c)]
    only = [a for c in cases or [] for a in ("-i", c)]
    subprocess.run([os.path.join(bin, "kosoku"), "-m", "fuzzingclient", "-p", "2", "-o", report, *only, *([] if only else more), f"ws://127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=1800)
    (found,) = json.load(open(os.path.join(report, "index.json"))).values(); shutil.rmtree(report)
    return {case: (v["behavior"], v["behaviorClose"]) for case, v in found.items()}


def passes(verdict): return set(verdict) <= PASSED


def configuration(echo):
    return dict(listeners=dict(plain=dict(bind="127.0.0.1:0"), secure=dict(bind="127.0.0.1:0", tls=dict(certificates=["edge"], client=dict(mode="off")))),
        certificates=dict(edge=dict(files=dict(certificate="edge.pem", key="edge.key"))), upstreams=dict(echo=dict(endpoints=[f"http://127.0.0.1:{echo}"])),
        routes=[dict(name="echo", on=["plain", "secure"], path="/**", authenticate="none", upstream="echo", upgrade=["websocket"])])


def free():
    with socket.create_server(("127.0.0.1", 0)) as s: return s.getsockname()[1]


class Ways:
    """An echo server, a gateway before it and HAProxy before that; what passes directly is found out once."""
    def __init__(self): self.lock = threading.Lock(); self.direct = None

    def check(self, way):
        """(passed, failed, skipped, complaints) of one way, `h1` or `h2`."""
        with self.lock: bin = programs()
        echo = subprocess.Popen([os.path.join(bin, "python"), "-c", ECHO], stdout=subprocess.PIPE, text=True, env=dict(os.environ, WEBSOCKETS_MAX_FRAGMENTS="1000000")); haproxy = None
        try:
            port = int(echo.stdout.readline())
            with Gateway() as gateway, tempfile.TemporaryDirectory() as directory:
                certificate(gateway.directory, "edge", [HOST]); gateway.start(configuration(port)); to = gateway.address("plain")[1]
                if way == "h2":
                    to = free(); open(gateway.path("haproxy.cfg"), "w").write(HAPROXY % (to, gateway.address("secure")[1], HOST))
                    haproxy = subprocess.Popen([shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin"), "-db", "-f", gateway.path("haproxy.cfg")], stdout=subprocess.DEVNULL, stderr=open(gateway.path("haproxy.log"), "w"))
                    for _ in range(100):
                        try: socket.create_connection(("127.0.0.1", to)).close(); break
                        except OSError: time.sleep(0.1)
                with self.lock:
                    if self.direct is None: self.direct = verdicts(bin, port, directory)
                good = [case for case, v in self.direct.items() if passes(v)]; through = verdicts(bin, to, directory)
                worse = [case for case in good if not passes(through.get(case, ["NOT RUN"]))]
                # A case has 100 seconds, and this machine may be busy: what fails has a second try, directly as well.
                again = verdicts(bin, to, directory, worse) if worse else {}; failed = [f"case {case}: {through.get(case)}, again {again.get(case)}" for case in worse if not passes(again.get(case, ["NOT RUN"]))]; passed = len(good) - len(failed)
                if not good: failed.append("no case passes directly")
                tunnels = [line for line in gateway.metrics().splitlines() if line.startswith("portcullis_requests_total") and 'route="echo"' in line and ('"2xx"' if way == "h2" else '"1xx"') in line]
                if sum(float(line.split()[-1]) for line in tunnels) < len(good): failed.append(f"it was not asked over this way: {tunnels}")
                return passed, len(failed), len(self.direct) - len(good), failed
        finally:
            for process in (echo, haproxy):
                if process: process.kill(); process.wait()


def rows():
    """What run.py runs: (tool, what, function)."""
    ways = Ways(); return [("Autobahn", "WebSocket over HTTP/1.1, beside without the gateway", lambda: ways.check("h1")), ("Autobahn", "the same over HTTP/2 (RFC 8441), TLS", lambda: ways.check("h2"))]


if __name__ == "__main__":
    ways = Ways(); bad = 0
    for way in sys.argv[1:] or ["h1", "h2"]:
        began = time.monotonic(); passed, failed, skipped, complaints = ways.check(way); bad += failed
        print(f"{way}: {passed} passed, {failed} failed, {skipped} fail directly as well, {time.monotonic() - began:.0f} s", *complaints, sep="\n", flush=True)
    sys.exit(bad > 0)
