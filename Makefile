# `make help` lists the targets. Everything works from a clean clone: each target installs what it lacks.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test test-ring servers attack conformance check bench release fuzz

TOOLS := target/tools
DENY := $(TOOLS)/bin/cargo-deny
FUZZ := $(TOOLS)/bin/cargo-fuzz
RING := --no-default-features --features ring
FUZZ_SECONDS ?= 60
# Many gateways, each with two cores, run at once: one test per core keeps their timings honest.
TEST_THREADS ?= $(shell nproc)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: ## build, make a development setting, start the gateway on it and print commands to paste
	cargo run --locked -p portcullis -- dev

# The same packages are named in every step, so that all share one set of features and nothing is compiled twice. The
# default provider comes last: it is the program that stays in target/debug.
test: ## unit tests, the promises end to end, the attack cases, the policies' cases; and the ring build's own
	.ci/setup
	$(MAKE) --no-print-directory test-ring PROMISES="promise_03 promise_04 promise_08 promise_09 promise_11 real_clients vault_logins"
	cargo build --locked --workspace --bins
	target/debug/portcullis policy test --directory policies
	cargo test --locked --workspace --doc
	cargo test --locked --workspace --tests --no-fail-fast -- --test-threads=$(TEST_THREADS)

test-ring: servers ## everything with ring as the crypto provider (PROMISES="name …" takes some end-to-end tests only)
	.ci/setup
	cargo build --locked --workspace --bins $(RING)
	cargo test --locked --workspace --lib --bins $(RING) -- --test-threads=$(TEST_THREADS)
	cargo test --locked --workspace --test promises $(RING) -- --test-threads=$(TEST_THREADS) $(PROMISES)

servers: ## the real servers that tests talk to (Vault, kube-apiserver, etcd), h2spec and the core rule set: built once, minutes
	tests/servers/build.sh target/servers

attack: ## every hostile case of tests/attacks: one table, reports in target/attack (10 minutes)
	.ci/setup
	cargo build --locked --workspace --bins
	/usr/bin/python3 tests/attacks/run_all.py

conformance: ## one table: h2spec, testssl, sslscan, slowhttptest, gRPC interop, Envoy, Autobahn and the core rule set's cases against the gateway (7 minutes)
	.ci/setup conformance
	tests/servers/build.sh target/servers h2spec grpc coreruleset
	cargo build --locked --workspace --bins
	tests/conformance/run.py

check: $(DENY) ## format, lints (both providers), layering, licences, docs, sizes, no key in the tree
	cargo fmt --all -- --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --workspace --all-targets $(RING) -- -D warnings
	$(DENY) --locked check --hide-inclusion-graph bans licenses sources
	@$(DENY) --locked check --hide-inclusion-graph advisories 2> target/advisories.log \
	  || if grep -qiE 'failed to (fetch|load|clone)|unable to fetch|dns|connect' target/advisories.log; \
	     then echo 'advisories: SKIPPED, the database cannot be reached from here'; \
	     else cat target/advisories.log >&2; exit 1; fi
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --quiet
	.ci/tree

bench: release ## CPU per request beside HAProxy, nginx and Envoy: table, figures and plot (half an hour with its builds; BENCH_ROUNDS=3)
	BENCH_BUILD='make release: fat LTO, PGO' tests/bench/compare.sh

release: ## the release build, optimised by the profile of a training load: target/release/portcullis (20 minutes)
	tests/bench/release.sh

fuzz: $(FUZZ) ## every fuzz target for FUZZ_SECONDS (60)
	fuzz/run.sh $(FUZZ_SECONDS)

$(DENY):
	cargo install cargo-deny --version '^0.20' --locked --root $(TOOLS) --quiet

$(FUZZ):
	cargo install cargo-fuzz --version '^0.13' --locked --root $(TOOLS) --quiet
