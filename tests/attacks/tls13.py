"""A TLS 1.3 client that can send what no library sends: empty records, KeyUpdates in masses. It checks nothing; loopback only.
X25519 and TLS_AES_128_GCM_SHA256 (RFC 8446)."""
import hashlib, hmac, os, socket, struct
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

sha = lambda b: hashlib.sha256(b).digest()
extract = lambda salt, key: hmac.new(salt, key, hashlib.sha256).digest()


def expand(secret, label, context, length):
    label = b"tls13 " + label
    info = struct.pack(">HB", length, len(label)) + label + bytes([len(context)]) + context
    return hmac.new(secret, info + b"\x01", hashlib.sha256).digest()[:length]


class Keys:
    def __init__(self, secret):
        self.secret = secret; self.aead = AESGCM(expand(secret, b"key", b"", 16)); self.iv = int.from_bytes(expand(secret, b"iv", b"", 12), "big"); self.seq = 0

    def nonce(self):
        n = (self.iv ^ self.seq).to_bytes(12, "big"); self.seq += 1; return n

    def next(self): return Keys(expand(self.secret, b"traffic upd", b"", 32))


class Client:
    def __init__(self, address, name, alpn=b"http/1.1"):
        self.s = socket.create_connection(address, timeout=10); key = X25519PrivateKey.generate(); n = name.encode()
        ext = lambda kind, body: struct.pack(">HH", kind, len(body)) + body
        vec = lambda b: struct.pack(">H", len(b)) + b
        share = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        exts = (ext(0, vec(b"\0" + vec(n))) + ext(10, vec(b"\x00\x1d")) + ext(13, vec(b"\x04\x03\x08\x04\x08\x07")) + ext(43, b"\x02\x03\x04")
                + ext(51, vec(b"\x00\x1d" + vec(share))) + ext(16, vec(bytes([len(alpn)]) + alpn)))
        body = b"\x03\x03" + os.urandom(32) + b"\x20" + os.urandom(32) + b"\x00\x02\x13\x01" + b"\x01\x00" + vec(exts)
        hello = b"\x01" + struct.pack(">I", len(body))[1:] + body
        self.s.sendall(b"\x16\x03\x01" + vec(hello)); kind, server_hello = self.record()
        assert kind == 22 and server_hello[0] == 2, (kind, server_hello[:8])
        at = 4 + 2 + 32; at += 1 + server_hello[at] + 3; at += 2; peer = None
        while at < len(server_hello):
            k, l = struct.unpack(">HH", server_hello[at:at + 4])
            if k == 51: peer = server_hello[at + 8:at + 4 + l]
            at += 4 + l
        seen = hello + server_hello; zero = bytes(32); empty = sha(b"")
        secret = extract(expand(extract(zero, zero), b"derived", empty, 32), key.exchange(X25519PublicKey.from_public_bytes(peer)))
        mine = Keys(expand(secret, b"c hs traffic", sha(seen), 32)); self.theirs = Keys(expand(secret, b"s hs traffic", sha(seen), 32)); buf = b""; done = False
        while not done:
            kind, data = self.record()
            if kind == 20: continue
            kind, data = self.open(data); assert kind == 22, (kind, data); buf += data
            while len(buf) >= 4 and len(buf) >= 4 + int.from_bytes(buf[1:4], "big"):
                message, buf = buf[:4 + int.from_bytes(buf[1:4], "big")], buf[4 + int.from_bytes(buf[1:4], "big"):]
                seen += message; done = message[0] == 20
        master = extract(expand(secret, b"derived", empty, 32), zero); finished = hmac.new(expand(mine.secret, b"finished", b"", 32), sha(seen), hashlib.sha256).digest()
        self.mine = mine; self.s.sendall(self.seal(22, b"\x14\x00\x00\x20" + finished))
        self.mine = Keys(expand(master, b"c ap traffic", sha(seen), 32)); self.theirs = Keys(expand(master, b"s ap traffic", sha(seen), 32))

    def record(self):
        head = self.exactly(5); return head[0], self.exactly(int.from_bytes(head[3:5], "big"))

    def exactly(self, n):
        out = b""
        while len(out) < n:
            d = self.s.recv(n - len(out))
            if not d: raise EOFError
            out += d
        return out

    def open(self, data):
        plain = self.theirs.aead.decrypt(self.theirs.nonce(), data, b"\x17\x03\x03" + struct.pack(">H", len(data))).rstrip(b"\0"); return plain[-1], plain[:-1]

    def seal(self, kind, data):
        head = b"\x17\x03\x03" + struct.pack(">H", len(data) + 17); return head + self.mine.aead.encrypt(self.mine.nonce(), data + bytes([kind]), head)

    def key_update(self, asks=True):
        out = self.seal(22, b"\x18\x00\x00\x01" + bytes([asks])); self.mine = self.mine.next(); return out
