#!/usr/bin/env bash
# Tries every target for as many seconds as the first argument says (60), from the seeds of fuzz/seeds.
# run.sh SECONDS [TARGET…]. A finding ends the run and leaves its input in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(canonicalise authority jwt jwks spiffe_id peer_certificate configuration references vault_answers proxy_header upstream_answer)

./unfold.py
# libFuzzer's flags need a nightly compiler or this; what is tried forbids `unsafe`, so no sanitizer is wanted.
export RUSTC_BOOTSTRAP=1
../target/tools/bin/cargo-fuzz build --fuzz-dir . --sanitizer none
binaries=$(echo target/*/release)
for target in "${targets[@]}"; do
  echo "== $target, $seconds s"
  mkdir -p "artifacts/$target"
  "$binaries/$target" "corpus/$target" -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" \
    -timeout=10 -rss_limit_mb=4096 -max_len=8192 -verbosity=0 -print_final_stats=1
done
echo "no finding in ${#targets[@]} targets, $seconds s each"
