#!/usr/bin/env bash
# What `make release` runs: the binary for users, optimised for what it does under load (PGO).
#   1. a build that counts what runs, 2. the training load of train.sh, 3. the release build with those counts.
# The binary comes to target/release/portcullis; STEP (build, train, use) does one of the three alone.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export BENCH_WORK=${BENCH_WORK:-$here/work}
directory=$PWD/target/pgo
host=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$directory" target/release

build() { # a target of its own keeps the flags away from build scripts and macros
  cargo build --locked --profile release --target "$host" --target-dir "$1" -p portcullis
}

counting() {
  # The same profile as for the build that uses them: cargo derives the names of all functions from it, and counts go by name.
  RUSTFLAGS="-Cprofile-generate=$directory/raw" build "$directory/counting"
}

train() {
  [ -e "$BENCH_WORK/ready" ] || { "$here/setup.sh"; touch "$BENCH_WORK/ready"; }
  rm -rf "$directory/raw"
  PORTCULLIS=$directory/counting/$host/release/portcullis "$here/train.sh"
  rustup component add llvm-tools
  "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" merge -o "$directory/portcullis.profdata" "$directory/raw"
}

use() {
  RUSTFLAGS="-Cprofile-use=$directory/portcullis.profdata" build "$directory/using"
  install -m 755 "$directory/using/$host/release/portcullis" target/release/portcullis
}

case ${STEP:-all} in
  build) counting ;;
  train) train ;;
  use) use ;;
  all) counting; train; use ;;
  *) echo 'STEP is build, train or use' >&2; exit 2 ;;
esac
