#!/usr/bin/env python3
"""run_all.py [--out DIR] [--only RX]: every case file of this directory against the built gateway, plain and over TLS where it applies; one
table: class, FAIL, WARN, PASS, what the gateway had in memory at its peak and the bound that it is held to, and the p50 of a well-behaved
client on another route beside the attack. Full reports go to DIR (target/attack). Exit status 1 on any FAIL or a broken bound.
Needs python3-cryptography and python3-hpack; loopback only.

That p50 is printed, not judged: attack, gateway and client share the cores here, without a cap on the attacker's CPU. `beside` judges it: attacker
and harmless load capped to half a core each (run_beside.py)."""
import argparse, collections, json, os, re, shutil, socket, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
HERE = os.path.dirname(os.path.abspath(__file__)); sys.path.insert(0, HERE)
from gateway import ADMIN, ALL, BINARY, HOST, ROOT, Gateway, certificate, site

# MB of the whole process at its peak: an unoptimised build of about 45 MB on its own, and what the attack may add.
BOUND = 128
BOUND_SLOW = 256  # 2,000 connections at once, or 200 large answers that nobody takes
CALM = dict(name="calm", on=["edge"], path="/calm", authenticate="none", respond=dict(status=200, body="calm"))


class Calm(threading.Thread):
    """One well-behaved client on a route of its own: a process, so that the driver's work is not measured."""
    def __init__(self, gateway, over):
        super().__init__(daemon=True); host, port = gateway.address(); self.p50 = None
        self.child = subprocess.Popen([sys.executable, os.path.join(HERE, "calm.py"), f"{host}:{port}", over], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True); self.quiet = self.child.stdout.readline().strip()
    def stop(self):
        out, _ = self.child.communicate("stop\n", timeout=20); return f"{self.quiet} → {out.strip()}"


def free_port():
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); return s.getsockname()[1]


def run(out, name, command):
    """A runner; its output and report lie in `out`. None if it made no report."""
    report = os.path.join(out, name + ".json")
    if os.path.exists(report): os.remove(report)
    with open(os.path.join(out, name + ".log"), "a") as log: code = subprocess.run([sys.executable, *command, "--json", report], stdout=log, stderr=log, cwd=HERE).returncode
    return json.load(open(report)) if os.path.exists(report) else dict(totals=dict(FAIL=1), results=[dict(id="?", verdict="FAIL", notes=[f"the runner ended with {code} and no report"])])


def row(name, totals, peak=None, bound=BOUND, calm=""):
    return dict(name=name, totals=dict(totals), peak=peak, bound=bound, calm=calm)


def http(out, file, over, runner="run_http1.py"):
    name = f"{file[:-5]}.{over}"
    with Gateway(ADMIN) as g:
        port = free_port(); config = site(g, over, f"http://127.0.0.1:{port}"); config["routes"].insert(0, CALM); g.start(config); calm = Calm(g, over); command = [os.path.join(HERE, runner), "%s:%d" % g.address(), "--host", HOST, "--backend-port", str(port)]
        if runner == "run_http1.py": command += ["--files", file] + (["--tls"] if over == "tls" else [])
        else: command += ["--pid", str(g.pid)]
        report = run(out, name, command); p50 = calm.stop(); alive = g.alive(); r = row(name, report["totals"], g.peak() // 1024 if alive else None, calm=p50)
        if not alive: r["totals"]["FAIL"] = r["totals"].get("FAIL", 0) + 1
        return r


def mtls(out):
    certs = os.path.join(out, "mtls"); shutil.rmtree(certs, ignore_errors=True); maker = os.path.join(out, "build_mtls.py"); shutil.copy(os.path.join(HERE, "build_mtls.py"), maker)
    subprocess.run([sys.executable, maker, "--out", certs], check=True, stdout=subprocess.DEVNULL, cwd=out); totals = collections.Counter(); peak = 0
    policy = 'permit(principal is Spiffe, action, resource) when { principal.trust_domain == "lab.test" && principal.path like "/ns/a/*" };'
    for crl, only in (("crl.pem", "MT"), ("crl-stale.pem", "MT-62"), ("crl-wrong-signer.pem", "MT-63"), ("crl-garbage.pem", "MT-64"), ("crl-idp.pem", "MT-65")):
        with Gateway(policy) as g:
            port = free_port(); from run_http1 import Backend; backend = Backend(port); backend.start(); config = site(g, "tls", f"http://127.0.0.1:{port}"); shutil.copytree(certs, g.path("mtls"))
            config["listeners"]["edge"]["tls"]["client"] = dict(mode="required", trust=["mesh"]); config["routes"][0]["authenticate"] = dict(any=["mesh"])
            config["trust"] = dict(mesh=dict(files=dict(ca="mtls/trust.pem", crl=["mtls/" + crl]), names="spiffe", trust_domain="lab.test", revocation=dict(when_stale="reject")))
            try: g.start(config)
            except RuntimeError as e:
                # Refused at the start, blaming the list: as good as a refused certificate.
                totals["PASS" if crl != "crl.pem" and (crl in str(e) or "CRL" in str(e)) else "FAIL"] += 1; continue
            report = run(out, "mtls" if only == "MT" else "mtls." + only, [os.path.join(HERE, "run_mtls.py"), "%s:%d" % g.address(), "--certs", certs, "--only", only]); peak = max(peak, g.peak() // 1024)
            if only == "MT":
                for r in report["results"]:
                    # Those four want a list of their own, below.
                    if r["id"] not in ("MT-62", "MT-63", "MT-64", "MT-65"): totals[r["verdict"]] += 1
            else: totals["PASS" if report["results"][0]["got"] == "reject" else "FAIL"] += 1
            backend.s.close()
    # Parameters, not certificates: tests/promises promise_03, promise_04 and promise_11.
    totals["SKIP"] += sum(c["id"].startswith("MH") for c in json.load(open(os.path.join(HERE, "mtls.json")))["cases"]); return row("mtls", totals, peak)


def jwt(out):
    cases = json.load(open(os.path.join(HERE, "jwt.json"))); results = []; tokens = {c["id"]: c.get("token", "") for c in cases["cases"]}
    from run_http1 import Backend
    with Gateway(ALL) as g:
        port = free_port(); backend = Backend(port); backend.start(); config = site(g, "plain", f"http://127.0.0.1:{port}"); open(g.path("jwks.json"), "w").write(json.dumps(cases["jwks"])); config["routes"].insert(0, CALM)
        config["identity"] = dict(jwt=dict(staff=dict(issuer=cases["issuer"], audience=[cases["audience"]], jwks=dict(file="jwks.json"), algorithms=["RS256", "ES256", "EdDSA", "PS256"], types=["JWT", "at+jwt"])))
        config["routes"][1]["authenticate"] = dict(any=["staff"]); g.start(config); calm = Calm(g, "plain")
        for c in cases["cases"]:
            if c["expect"]["decision"] == "see why": results.append(dict(id=c["id"], verdict="INFO", notes=["parameters; tests/promises promise_08 and promise_09"])); continue
            def fill(text):
                text = text.replace("{TOKEN}", c.get("token") or "")
                for mark, other in (c.get("uses") or {}).items(): text = text.replace(mark, tokens[other])
                return text
            target, fields = "/jwt", []
            for f in c.get("request_headers") or ["Authorization: Bearer {TOKEN}"]:
                if f.startswith("@query "): target = "/jwt?" + fill(f[7:])
                else: fields.append(fill(f))
            sent = (f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n" + "".join(f + "\r\n" for f in fields) + "\r\n").encode("utf-8", "surrogateescape"); backend.start(); got = b""
            s = socket.create_connection(g.address(), timeout=10)
            try:
                s.sendall(sent)
                while True:
                    d = s.recv(65536)
                    if not d: break
                    got += d
            except OSError: pass
            s.close(); status = int(got[9:12]) if got[9:12].isdigit() else 0; arrived = len(backend.reqs); want = c["expect"]["decision"]
            ok = status == 200 and arrived == 1 if want == "accept" else (status in (400, 401, 431) or status == 0 and len(sent) > 32768) and not arrived if want == "reject" else status in (200, 401)
            results.append(dict(id=c["id"], verdict="PASS" if ok else "WARN" if c.get("level") == "should" else "FAIL", notes=[f"{status}, {arrived} arrived, expected {want}: {c['why']}"]))
        p50 = calm.stop(); totals = collections.Counter(r["verdict"] for r in results); json.dump(dict(totals=totals, results=results), open(os.path.join(out, "jwt.json"), "w"), indent=1)
        return row("jwt", totals, g.peak() // 1024, calm=p50)


def own(out, file):
    name = file[:-5]; report = run(out, name, [os.path.join(HERE, f"run_{name}.py")]); return row(name, report["totals"], report.get("peak_rss_mb"), BOUND_SLOW if name in ("slow", "beside") else BOUND)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter); ap.add_argument("--out", default=os.path.join(ROOT, "target/attack")); ap.add_argument("--only", default=""); ap.add_argument("--parallel", type=int, default=4); a = ap.parse_args()
    shutil.rmtree(a.out, ignore_errors=True); os.makedirs(a.out); began = time.monotonic(); jobs = [(f"{f}.{over}", lambda f=f, over=over: http(a.out, f + ".json", over)) for f in ("http1_framing", "path_bypass", "header_trust", "response_side") for over in ("plain", "tls")]
    jobs += [("http2.tls", lambda: http(a.out, "http2.json", "tls", "run_http2.py")), ("jwt", lambda: jwt(a.out)), ("mtls", lambda: mtls(a.out)), ("rate_limit", lambda: own(a.out, "rate_limit.json"))]
    late = [("slow", lambda: own(a.out, "slow.json")), ("beside", lambda: own(a.out, "beside.json")), ("faults", lambda: own(a.out, "faults.json"))]  # by themselves: deadlines, and times that are compared
    def safely(job):
        try: return job[1]()
        except Exception as e: return dict(row(job[0], dict(FAIL=1)), calm=f"{type(e).__name__}: {str(e)[-300:]}")
    rows = []
    for some, parallel in ((jobs, a.parallel), (late, 1)):
        with ThreadPoolExecutor(parallel) as pool: rows += pool.map(safely, [j for j in some if re.search(a.only, j[0])])
    verdicts = ("FAIL", "WARN", "PASS", "INFO", "SKIP"); lines = [f"{'class':22}" + "".join(f"{v:>6}" for v in verdicts) + f"{'RSS MB':>8}{'bound':>7}  calm client's p50, ms: alone → beside"]; bad = 0; sums = collections.Counter()
    for r in rows:
        sums.update(r["totals"]); broken = r["peak"] is not None and r["peak"] > r["bound"]; bad += r["totals"].get("FAIL", 0) + broken
        lines.append(f"{r['name']:22}" + "".join(f"{r['totals'].get(v, 0):6}" for v in verdicts) + f"{r['peak'] if r['peak'] is not None else '-':>8}{r['bound']:>7}{'!' if broken else ' '} {r['calm']}")
    lines.append(f"{'all':22}" + "".join(f"{sums[v]:6}" for v in verdicts) + f"   in {time.monotonic() - began:.0f} s; reports in {os.path.relpath(a.out)}")
    beside = os.path.join(a.out, "beside.log")
    if os.path.exists(beside): lines += ["", "a well-behaved client beside an attack, and beside harmless load; attacker and load have half a core each:"] + open(beside).read().splitlines()
    faults = os.path.join(a.out, "faults.log")
    if os.path.exists(faults): lines += ["", "a well-behaved client of one upstream while another one fails:"] + open(faults).read().splitlines()
    print("\n".join(lines)); open(os.path.join(a.out, "table.txt"), "w").write("\n".join(lines) + "\n"); json.dump(rows, open(os.path.join(a.out, "table.json"), "w"), indent=1)
    for r in rows:
        report = os.path.join(a.out, r["name"] + ".json")
        for result in json.load(open(report))["results"] if os.path.exists(report) else []:
            if result["verdict"] == "FAIL": print(f"FAIL {r['name']} {result['id']}: {'; '.join(map(str, result.get('notes') or [result.get('note')]))[:200]}")
    return 2 if not rows else 1 if bad else 0


if __name__ == "__main__": sys.exit(main())
