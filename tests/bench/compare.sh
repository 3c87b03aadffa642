#!/usr/bin/env bash
# What `make bench` runs: the cases of cases.py in interleaved rounds, one core each; then table, figures and plot in
# $BENCH_WORK/results/latest (BENCH_PUBLISH=1: in results/ here, which the README shows).
# BENCH_ROUNDS (3), BENCH_CASES and BENCH_PROXIES narrow it; PORTCULLIS is the binary (target/release/portcullis).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export BENCH_WORK=${BENCH_WORK:-$here/work}
mkdir -p "$BENCH_WORK/results"
if [ ! -e "$BENCH_WORK/ready" ] || [ "$here/floor/tools/src/bin/lg.rs" -nt "$BENCH_WORK/bin/lg" ]; then
  "$here/setup.sh"
  touch "$BENCH_WORK/ready"
fi
export PORTCULLIS_CMD="$here/portcullis-bench.sh {variant} {port} {backend} {certs} {threads}"
out=$BENCH_WORK/results/$(date -u +%Y%m%dT%H%M%SZ).jsonl
python=$BENCH_WORK/venv/bin/python
"$python" "$here/compare.py" "$out" || echo 'some measurements failed: see above' >&2
directory=$BENCH_WORK/results/latest
[ -z "${BENCH_PUBLISH:-}" ] || directory=$here/results
"$python" "$here/report.py" "$out" "$directory"
echo "measurements: $out; table, figures and plot: $directory"
