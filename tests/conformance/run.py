#!/usr/bin/env python3
"""run.py [--only RX] [--keep DIR]: holds target/debug/portcullis (or $PORTCULLIS) to what others wrote: h2spec, testssl, sslscan, slowhttptest, gRPC interop, Envoy, Autobahn.
Prints one table; ends with 1 if anything failed. Reports go to DIR (target/conformance). Loopback only; about fifteen minutes.

A row is a tool against one listener. h2spec: cases; "strict" are those that it runs only with --strict. testssl: findings, failed
from MEDIUM on. sslscan: checks of ours on what it saw. slowhttptest: seconds of an attack, failed when the service was not
available, and more memory than PER_CONNECTION for each connection.
What runs against certificates of an authority made here is told that authority: nothing else is explained away (see EXPLAINED)."""
import argparse, asyncio, csv, json, os, re, socket, subprocess, sys, threading, time, xml.etree.ElementTree as xml
from concurrent.futures import ThreadPoolExecutor
HERE = os.path.dirname(os.path.abspath(__file__)); ROOT = os.path.dirname(os.path.dirname(HERE))
sys.dont_write_bytecode = True; sys.path.insert(0, os.path.join(ROOT, "tests/attacks"))
from gateway import Gateway
import autobahn, envoy
SERVERS = os.path.join(ROOT, "target/servers"); H2SPEC = os.path.join(SERVERS, "h2spec"); NAME = "localhost"; SUITES, PER_CONNECTION = 3, 512  # kB
# Fewer readers: each fills the buffers of two connections.
SLOW, SMALL, LARGE = dict(headers=800, body=800, read=200), b"x" * 65536, b"x" * (8 << 20)
# testssl speaks of the machine that it runs on, not of the gateway.
EXPLAINED = {"engine_problem"}
# Cases of grpc-go's interop client that need no account of a cloud; what fails without the gateway too (its server wants other flags) is skipped.
CASES = ("empty_unary large_unary client_streaming server_streaming ping_pong empty_stream timeout_on_sleeping_server cancel_after_begin cancel_after_first_response "
         "status_code_and_message special_status_message custom_metadata unimplemented_method unimplemented_service pick_first_unary orca_per_rpc orca_oob").split()
NOT_YET = [("h2spec", "HTTP/2 without TLS", "a plain listener speaks HTTP/1.1 only (h2c is for `ext_authz` listeners)")]


class Upstream(threading.Thread):
    """Answers with 64 KiB (for /large: 8 MiB, more than all buffers on the way), after it has read the request's body."""
    def __init__(self):
        super().__init__(daemon=True); self.socket = socket.create_server(("127.0.0.1", 0), backlog=2048); self.port = self.socket.getsockname()[1]; self.start()

    def run(self):
        async def serve():
            async with await asyncio.start_server(self.connection, sock=self.socket) as server: await server.serve_forever()
        asyncio.run(serve())

    async def connection(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower(); length = re.search(rb"content-length: *(\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                while b"transfer-encoding: chunked" in head and (size := int(await reader.readline(), 16)): await reader.readexactly(size + 2)
                if b"transfer-encoding: chunked" in head: await reader.readuntil(b"\r\n")
                body = LARGE if b" /large " in head else SMALL
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
                if not head.startswith(b"head "): writer.write(body)
                await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError): pass
        finally: writer.close()


class Interop:
    """grpc-go's interop server: plain with prior knowledge, or over TLS."""
    def __init__(self, directory, tls):
        with socket.create_server(("127.0.0.1", 0)) as probe: self.port = probe.getsockname()[1]
        flags = ["-use_tls", "-tls_cert_file", "server.pem", "-tls_key_file", "server.key"] if tls else []
        self.process = subprocess.Popen([os.path.join(SERVERS, "grpc-interop-server"), "-port", str(self.port), *flags], cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(1000):
            try: return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError: time.sleep(0.01)
        raise OSError("the gRPC server does not listen")

    def __enter__(self): return self

    def __exit__(self, *_): self.process.kill(); self.process.wait()


def certificates(directory):
    """server.pem for localhost and client.pem for a workload, of one authority. 90 days and a place of revocation, as a public one would."""
    def make(name, subject, *extensions, of=("-CA", "ca.pem", "-CAkey", "ca.key")):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90", "-sha256", "-subj", subject,
            "-keyout", name + ".key", "-out", name + ".pem", *of, *(a for e in extensions for a in ("-addext", e))], cwd=directory, check=True, capture_output=True)
    leaf = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", "crlDistributionPoints=URI:http://ca.test/list.crl"]
    make("ca", "/CN=conformance root", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign", of=())
    make("server", "/CN=localhost", *leaf, "extendedKeyUsage=serverAuth", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    make("client", "/CN=client", *leaf, "extendedKeyUsage=clientAuth", "subjectAltName=URI:spiffe://example.org/conformance")

def configuration(upstream, plain, secure):
    """One TLS listener for each thing that can be asked of clients; everything goes to one upstream, all limits are the defaults."""
    clients = dict(off=dict(mode="off"), optional=dict(mode="optional", trust=["mesh"]), required=dict(mode="required", trust=["mesh"]))
    clients |= {"grpc-h2c": clients["off"], "grpc-tls": clients["off"]}
    return dict(
        listeners={name: dict(bind="127.0.0.1:0", tls=dict(certificates=["server"], client=client)) for name, client in clients.items()},
        certificates=dict(server=dict(files=dict(certificate="server.pem", key="server.key"))),
        trust=dict(mesh=dict(files=dict(ca="ca.pem"), names="spiffe", trust_domain="example.org"), web=dict(files=dict(ca="ca.pem"), names="dns")),
        upstreams={"app": dict(endpoints=[f"http://127.0.0.1:{upstream.port}"]), "grpc-h2c": dict(endpoints=[f"http://127.0.0.1:{plain.port}"], protocol="http2"),
            "grpc-tls": dict(endpoints=[f"https://127.0.0.1:{secure.port}"], protocol="http2", tls=dict(trust=["web"], expect="localhost"))},
        routes=[dict(name=name, on=[name], path="/**", authenticate="none", upstream=name) for name in ("grpc-h2c", "grpc-tls")] + [dict(name="all", on=["off", "optional", "required"], path="/**", authenticate="none", upstream="app")])


class Run:
    """The tools, each as a function from a listener's name to (passed, failed, skipped, complaints)."""
    def __init__(self, gateway, reports):
        self.gateway, self.reports = gateway, reports

    def port(self, listener): return str(self.gateway.address(listener)[1])

    def report(self, name):
        path = os.path.join(self.reports, name)
        if os.path.exists(path): os.remove(path)
        return path

    def call(self, log, *command, seconds=300):
        with open(self.report(log), "w") as out:
            return subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=seconds, cwd=self.gateway.directory)

    def h2spec(self, listener, strict):
        def cases(name, *more):
            report = self.report(name + ".xml")
            self.call(name + ".txt", H2SPEC, "-t", "-k", "-h", "127.0.0.1", "-p", self.port(listener), "-o", "5", "-j", report, *more)
            found = {}
            for case in xml.parse(report).getroot().iter("testcase"):
                found[case.get("package"), case.get("classname"), len([k for k in found if k[:2] == (case.get("package"), case.get("classname"))])] = \
                    next((e for e in case if e.tag in ("failure", "error")), case.find("skipped"))
            return found
        loose = cases("h2spec-without-strict" if strict else "h2spec")
        judged = loose if not strict else {k: v for k, v in cases("h2spec-strict", "-S").items() if k not in loose}
        failed = [f"{k[0]} {k[1]}" for k, v in judged.items() if v is not None and v.tag != "skipped"]
        skipped = [k for k, v in judged.items() if v is not None and v.tag == "skipped"]
        if not judged: failed.append("no case ran")
        return len(judged) - len(failed) - len(skipped), len(failed), len(skipped), failed

    def grpc(self, listener, server):
        def passes(case, *target):
            try: return self.call(f"{listener}-{case}.txt", os.path.join(SERVERS, "grpc-interop-client"), "-server_host", "127.0.0.1", *target, "-test_case", case, seconds=30).returncode == 0
            except subprocess.TimeoutExpired: return False
        secure = ["-use_tls", "-use_test_ca", "-ca_file", self.gateway.path("ca.pem"), "-server_host_override", NAME]
        direct = [c for c in CASES if passes(c, "-server_port", str(server.port), *(secure if listener == "grpc-tls" else []))]
        failed = [c for c in direct if not passes(c, "-server_port", self.port(listener), *secure)]
        return len(direct) - len(failed), len(failed), len(CASES) - len(direct), failed + ([] if direct else ["no case passes directly"])

    def core_rule_set(self):
        """Its own request cases, and which rules match them; no gateway is asked. The test that counts them fails below its floor."""
        log = os.path.join(self.reports, "core-rule-set.txt")
        with open(log, "w") as out:
            ended = subprocess.run(["cargo", "test", "--locked", "--workspace", "--test", "core_rule_set", "--", "--nocapture", "the_rule_sets_own"], stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, "WAF_CASES": "1"})
        counts = re.search(r"core rule set: (\d+) of (\d+) cases agree, (\d+) left out", open(log).read())
        if not counts: return 0, 1, 0, ["no case ran: see " + log]
        agreed, total, left_out = map(int, counts.groups())
        # What differs is known and listed in the log; less than the floor is a failure.
        return agreed, int(ended.returncode != 0), total - agreed + left_out, ["fewer agree than before: see " + log] if ended.returncode else []

    def testssl(self, listener):
        found = self.scanned(listener)
        # It gives its own connections some seconds, which a busy machine may take: then it looks once more.
        return self.scanned(listener) if any("connect problem" in complaint for complaint in found[3]) else found

    def scanned(self, listener):
        report = self.report(f"testssl-{listener}.json")
        self.call(f"testssl-{listener}.txt", "testssl", "--quiet", "--color", "0", "--warnings", "batch", "--ip", "one", "--add-ca", self.gateway.path("ca.pem"),
                  "--jsonfile", report, f"{NAME}:{self.port(listener)}")
        found = [f for f in json.load(open(report)) if f["id"] not in EXPLAINED]
        # It cannot show a client certificate: where one is required it gets no answer, and says what it cannot test for that reason.
        untested = [f for f in found if f["severity"] == "DEBUG" or "prevents this from being tested" in f["finding"]]
        skipped = len(untested)
        bad = [f"{f['severity']} {f['id']}: {f['finding']}" for f in found if f["severity"] not in ("OK", "INFO", "LOW") and f not in untested]
        if not any(f["id"] == "scanTime" and f["severity"] == "INFO" for f in found): bad.append("the scan did not come to its end")
        return len(found) - len(bad) - skipped, len(bad), skipped, bad

    def sslscan(self, listener):
        report = self.report(f"sslscan-{listener}.xml")
        self.call(f"sslscan-{listener}.txt", "sslscan", f"--xml={report}", "--no-colour", f"--sni-name={NAME}", "--certs=client.pem", "--pk=client.key", f"127.0.0.1:{self.port(listener)}")
        seen = xml.parse(report).getroot(); versions = {f"{p.get('type')}{p.get('version')}" for p in seen.iter("protocol") if p.get("enabled") == "1"}
        suites = [(c.get("sslversion"), c.get("cipher")) for c in seen.iter("cipher")]
        checks = {
            f"TLS 1.2 and 1.3 only: {versions}": versions == {"tls1.2", "tls1.3"},
            f"AEAD suites with forward secrecy only: {suites}": len(suites) == 2 * SUITES and all(re.match(r"TLS_|ECDHE-.*(GCM|POLY1305)", name) for _, name in suites),
            "no renegotiation": all(r.get("supported") == "0" for r in seen.iter("renegotiation")),
            "no compression": all(c.get("supported") == "0" for c in seen.iter("compression")),
            "no heartbleed": all(h.get("vulnerable") == "0" for h in seen.iter("heartbleed")),
            "groups of 128 bits and more": all(int(g.get("bits")) >= 128 for g in seen.iter("group")),
        }
        failed = [what for what, ok in checks.items() if not ok]
        return len(checks) - len(failed), len(failed), 0, failed

    def slowhttptest(self, kind):
        how = {"headers": ["-H", "-i", "5"], "body": ["-B", "-i", "5", "-s", "8192"], "read": ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3"]}[kind]
        count, before = SLOW[kind], self.gateway.rss()
        name = self.report(f"slowhttptest-{kind}"); self.report(f"slowhttptest-{kind}.csv")
        self.call(name + ".txt", "slowhttptest", *how, "-c", str(count), "-r", "200", "-l", "30", "-p", "3", "-g", "-o", name, "-u", f"https://127.0.0.1:{self.port('off')}/{'large' if kind == 'read' else ''}", seconds=60)
        seconds = list(csv.DictReader(open(name + ".csv"), skipinitialspace=True))
        available = [int(s["Service Available"]) > 0 for s in seconds]
        failed = [f"second {s['Seconds']}: not available" for s, ok in zip(seconds, available) if not ok]
        if len(seconds) < 5 or not any(int(s["Connected"]) >= count / 2 for s in seconds): failed.append("the attack did not come about")
        if (held := self.gateway.peak() - before) > count * PER_CONNECTION: failed.append(f"{held} kB in memory more than before")
        return sum(available), len(failed), 0, failed


def main():
    options = argparse.ArgumentParser(description=__doc__); options.add_argument("--only", default=""); options.add_argument("--keep", default=os.path.join(ROOT, "target/conformance"))
    options = options.parse_args(); os.makedirs(options.keep, exist_ok=True)
    with Gateway() as gateway:
      certificates(gateway.directory)
      with Interop(gateway.directory, False) as plain, Interop(gateway.directory, True) as secure:
        gateway.start(configuration(Upstream(), plain, secure)); run = Run(gateway, options.keep)
        work = [("h2spec", "HTTP/2 over TLS", lambda: run.h2spec("off", False)), ("h2spec", "the same, strict cases", lambda: run.h2spec("off", True))]
        work += [("gRPC interop", f"HTTP/2 over TLS in, {out} out", lambda name=name, server=server: run.grpc(name, server)) for name, out, server in (("grpc-h2c", "h2c", plain), ("grpc-tls", "TLS", secure))]
        for tool in ("sslscan", "testssl"):
            work += [(tool, f"client certificates {mode}", lambda tool=tool, mode=mode: getattr(run, tool)(mode)) for mode in ("off", "optional", "required")]
        work += [("slowhttptest", f"{SLOW[kind]} slow {kind}", lambda kind=kind: run.slowhttptest(kind)) for kind in ("headers", "body", "read")]
        work += [("Envoy", "ext_authz as the pipeline decides", envoy.check), *autobahn.rows()]
        work += [("core rule set", "its own request cases (skipped: differing, or not for requests)", run.core_rule_set)]
        work = [w for w in work if re.search(options.only, " ".join(w[:2]))]
        def judged(one):
            try: return one()
            except autobahn.Missing as missing: return 0, 0, f"SKIPPED: {missing}", []
            except (OSError, subprocess.SubprocessError, xml.ParseError, ValueError, KeyError) as error: return 0, 1, 0, [f"{type(error).__name__}: {error}"]
        # Scans look at answers, not at times: they may run beside each other. Attacks run alone.
        with ThreadPoolExecutor(3) as pool: scans = list(pool.map(lambda w: None if w[0] == "slowhttptest" else judged(w[2]), work))
        rows = [(*w[:2], *(scan or judged(w[2]))) for w, scan in zip(work, scans)]
        if not gateway.alive(): rows.append(("portcullis", "lives to the end", 0, 1, 0, ["it ended: " + open(gateway.path("log")).read()[-500:]]))
    print("| tool | what | passed | failed | skipped |\n| --- | --- | --- | --- | --- |")
    for tool, what, passed, failed, skipped, _ in rows: print(f"| {tool} | {what} | {passed} | {failed} | {skipped} |")
    for tool, what, why in NOT_YET: print(f"| {tool} | {what} | NOT YET: {why} | | |")
    for tool, what, *_, complaints in rows:
        for complaint in complaints: print(f"FAILED {tool}, {what}: {complaint}")
    sys.exit(any(row[3] for row in rows))


if __name__ == "__main__":
    main()
