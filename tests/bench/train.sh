#!/usr/bin/env bash
# The load by which `make release` learns what is hot: each kind of traffic for a few seconds, good and refused.
# PORTCULLIS is the binary that counts.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export BENCH_WORK=${BENCH_WORK:-$here/work}
gateway="$here/portcullis-bench.sh {variant} {port} {backend} {certs} {threads}"
load() {
  "$BENCH_WORK/venv/bin/python" "$here/bench.py" --proxy portcullis --cmd "$gateway" --dur 3 --warm 0.5 --variant "$@"
}
load tls
load tls --conns 256
load tls --proto h2
load plain
load mtls
load es256rl --tokens es.1k
load es256rl --tokens es.all --dur 2
load rs256 --tokens rs.all --dur 1
load es256rl --tokens bad --dur 1
load big --conns 8
load hs
load scale-100 --spread 100,1000
