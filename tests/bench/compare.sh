#!/usr/bin/env bash
# What `make bench` runs: peers and portcullis in interleaved rounds, steady load, one core each; prints ratios.
# BENCH_ROUNDS (3), BENCH_VARIANTS (plain,tls,es256rl,mtls), BENCH_PROXIES. Needs target/release/portcullis.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export BENCH_WORK=${BENCH_WORK:-$here/work}
mkdir -p "$BENCH_WORK"
if [ ! -e "$BENCH_WORK/ready" ]; then
  "$here/setup.sh"
  touch "$BENCH_WORK/ready"
fi
export PORTCULLIS_CMD="$here/portcullis-bench.sh {variant} {port} {backend} {certs} {threads}"
out=$BENCH_WORK/results/$(date -u +%Y%m%dT%H%M%SZ).jsonl
mkdir -p "$(dirname "$out")"
"$BENCH_WORK/venv/bin/python" "$here/runall.py" A "${BENCH_ROUNDS:-3}" "$out" \
  "${BENCH_PROXIES:-haproxy,nginx,envoy,envoy-cache,portcullis}" "${BENCH_VARIANTS:-plain,tls,es256rl,mtls}"
"$here/table.py" "$out"
echo "measurements: $out"
