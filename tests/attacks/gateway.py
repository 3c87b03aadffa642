"""Starts the built gateway for a driver: a directory, an authority, a configuration, and what its process takes."""
import base64, datetime, json, os, shutil, subprocess, tempfile, time
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

HERE = os.path.dirname(os.path.abspath(__file__)); ROOT = os.path.dirname(os.path.dirname(HERE)); HOST = "gw.test"
BINARY = os.environ.get("PORTCULLIS", os.path.join(ROOT, "target/debug/portcullis"))
ADMIN = 'permit(principal, action, resource) unless { context.path == "/admin" || context.path like "/admin/*" };'
ALL = "permit(principal, action, resource);"
b64 = lambda b: base64.urlsafe_b64encode(b).rstrip(b"=").decode()


def pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def certificate(directory, name, names):
    """NAME.pem and NAME.key, signed by an authority of its own (NAME-ca.pem)."""
    now = datetime.datetime.utcnow()
    def build(subject, issuer, public, signer, extensions):
        b = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public).serial_number(x509.random_serial_number())
        b = b.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=2))
        for extension, critical in extensions:
            b = b.add_extension(extension, critical)
        return b.sign(signer, hashes.SHA256())
    dn = lambda cn: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, cn)])
    ca, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    usage = dict(content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False)
    skid = x509.SubjectKeyIdentifier.from_public_key(ca.public_key())
    root = build(dn("root of " + name), dn("root of " + name), ca.public_key(), ca, [(x509.BasicConstraints(True, 0), True), (skid, False),
        (x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **usage), True)])
    import ipaddress
    sans = [x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
    leaf = build(dn(names[0]), root.subject, key.public_key(), ca, [(x509.BasicConstraints(False, None), True), (x509.SubjectAlternativeName(sans), False),
        (x509.KeyUsage(digital_signature=True, key_cert_sign=False, crl_sign=False, **usage), True),
        (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False), (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), False)])
    put = lambda file, data: open(os.path.join(directory, file), "wb").write(data)
    put(name + ".pem", leaf.public_bytes(serialization.Encoding.PEM)); put(name + ".key", pem(key)); put(name + "-ca.pem", root.public_bytes(serialization.Encoding.PEM))


class Signer:
    """Signs ES256 tokens."""
    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1()); n = self.key.public_key().public_numbers()
        self.jwks = dict(keys=[dict(kty="EC", crv="P-256", kid="k1", use="sig", alg="ES256", x=b64(n.x.to_bytes(32, "big")), y=b64(n.y.to_bytes(32, "big")))])

    def token(self, kid="k1", **claims):
        body = dict(iss="https://idp.test", aud="gw", sub="alice", exp=int(time.time()) + 600, iat=int(time.time())); body.update(claims)
        signed = b64(json.dumps(dict(alg="ES256", typ="JWT", kid=kid)).encode()) + "." + b64(json.dumps(body).encode())
        r, s = utils.decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return signed + "." + b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


class Gateway:
    """A running gateway; `config` is completed as testkit does it. Files go to `self.directory` before `start`."""
    def __init__(self, policy=ALL):
        self.directory = tempfile.mkdtemp(prefix="attack-"); os.mkdir(self.path("policies")); self.process = None
        open(self.path("policies/all.cedar"), "w").write(policy)

    def path(self, name):
        return os.path.join(self.directory, name)

    def configure(self, config):
        config = dict(config, version=1, cores=config.get("cores", 2)); config.setdefault("policies", dict(directory="policies"))
        config.setdefault("admin", dict(bind="127.0.0.1:0", probes="127.0.0.1:0")); config.setdefault("telemetry", dict(access_log=dict(to="off")))
        scratch = self.path("portcullis.tmp"); open(scratch, "w").write(json.dumps(config, indent=1)); os.rename(scratch, self.path("portcullis.yaml"))

    def start(self, config):
        self.configure(config); ready = self.path("ready.json")
        self.process = subprocess.Popen([BINARY, "run", "-c", self.path("portcullis.yaml"), "--ready-file", ready], stdout=subprocess.DEVNULL, stderr=open(self.path("log"), "w"), env=dict(os.environ, NO_COLOR="1"))
        for _ in range(600):
            if os.path.exists(ready): break
            if self.process.poll() is not None: break
            time.sleep(0.05)
        if not os.path.exists(ready): raise RuntimeError("the gateway does not start: " + open(self.path("log")).read()[-2000:])
        self.ready = json.load(open(ready)); self.pid = self.ready["pid"]; self.at = self.ready["listeners"]; return self

    def address(self, listener="edge"):
        host, _, port = self.at[listener].rpartition(":"); return host.strip("[]"), int(port)

    def status(self, what):
        for line in open(f"/proc/{self.pid}/status"):
            if line.startswith(what + ":"): return int(line.split()[1])
        return 0

    def rss(self):
        """kB in memory now."""
        return self.status("VmRSS")

    def peak(self):
        """kB in memory at most since it started."""
        return self.status("VmHWM")

    def cpu(self):
        """Seconds of CPU since it started."""
        fields = open(f"/proc/{self.pid}/stat").read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self):
        import urllib.request
        return urllib.request.urlopen(f"http://{self.ready['admin']}/metrics", timeout=10).read().decode()

    def metric(self, name):
        return sum(float(l.split()[-1]) for l in self.metrics().splitlines() if l.startswith(name))

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.process and self.alive():
            self.process.kill(); self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self): return self
    def __exit__(self, *_): self.stop()


def site(gateway, over, upstream, **limits):
    """A configuration with one listener `edge`, plain or over TLS, and everything sent to one upstream."""
    listener = dict(bind="127.0.0.1:0")
    if limits: listener["limits"] = limits
    config = dict(listeners=dict(edge=listener), upstreams=dict(app=dict(endpoints=[upstream])),
                  routes=[dict(name="all", on=["edge"], path="/**", authenticate="none", upstream="app")])
    if over == "tls":
        certificate(gateway.directory, "edge", [HOST, "localhost", "127.0.0.1"])
        config["certificates"] = dict(edge=dict(files=dict(certificate="edge.pem", key="edge.key")))
        listener["tls"] = dict(certificates=["edge"], client=dict(mode="off"))
    return config
