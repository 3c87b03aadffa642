#!/usr/bin/env python3
"""Makes a corpus of the seeds: one file per line of seeds/TARGET.txt, and each file of seeds/TARGET/."""
import base64
import hashlib
import pathlib
import shutil

here = pathlib.Path(__file__).parent
read = {
    # Header and claims, parted by a tab here and by a line feed for the target.
    "jwt": lambda line: line.replace(b"\t", b"\n"),
    "peer_certificate": base64.b64decode,
    "proxy_header": base64.b64decode,
}
for seeds in sorted((here / "seeds").iterdir()):
    target = seeds.stem
    corpus = here / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    if seeds.is_dir():
        for seed in seeds.iterdir():
            shutil.copy(seed, corpus)
        continue
    for line in seeds.read_bytes().splitlines():
        seed = read.get(target, bytes)(line)
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
