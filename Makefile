# Everything a newcomer types. `make` alone lists it.
#
# `demo` and `test` are enough to see the system run and to trust a change; each first
# sees to what a bare Debian or Ubuntu lacks.

# rustup's directory is not always in the PATH of a shell that make starts.
export PATH := $(PATH):$(HOME)/.cargo/bin

# Arguments for the demo, for example: make demo ARGS="--origin http://127.0.0.1:9000"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help deps deps-test demo test proof check fuzz drill deps-chaos chaos bench scale compose compose-keys compose-test clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

# pingora compresses with zlib-ng, which is built with cmake; ring and zstd need a C
# compiler. As root on a system with apt they are installed, otherwise named.
deps: ## install, or name, what the build needs
	@command -v cargo >/dev/null || { \
	    echo "cargo is missing: install Rust, see https://rustup.rs" >&2; exit 1; }
	@missing=; \
	command -v cmake >/dev/null || missing="$$missing cmake"; \
	command -v cc >/dev/null || missing="$$missing gcc libc6-dev"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	else \
	    echo "missing packages:$$missing (on Debian or Ubuntu: sudo apt-get install$$missing)" >&2; \
	    exit 1; \
	fi

# Signatures are held against an implementation of another hand, which is in Python;
# the test installs it beneath target/.
deps-test: deps
	@python3 -c 'import venv, ensurepip' 2>/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv; \
	else \
	    echo "missing packages: python3 python3-venv (on Debian or Ubuntu: sudo apt-get install python3 python3-venv)" >&2; \
	    exit 1; \
	fi

demo: deps ## three edges, two upper tiers and an origin on loopback
	cargo build --release --bins
	target/release/headwater demo $(ARGS)

# Scenarios may start the binaries, so they are built first.
test: deps-test ## every test
	cargo build --workspace --bins
	cargo test --workspace

# Each break is applied to a copy of the tree, beneath target/, and has to be found by
# the test that it names. ONLY=wire- runs those whose name begins so.
ONLY ?=
proof: deps-test ## break every layer on purpose, and see its test fail
	tests/proof/run $(ONLY)

check: deps ## what a change has to pass: format, lints, documentation, tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps
	$(MAKE) test

# How long each target runs.
SECONDS ?= 20

# Nightly, since no stable compiler has sanitizers. What a target finds stays in
# fuzz/artifacts, and what it has learnt in fuzz/corpus.
fuzz: deps ## let a fuzzer at every parser, each for SECONDS=20
	@cargo +nightly fuzz --version >/dev/null 2>&1 || { \
	    echo "missing: rustup toolchain install nightly; cargo install cargo-fuzz" >&2; exit 1; }
	@cd fuzz && for target in $$(cargo +nightly fuzz list --fuzz-dir .); do \
	    cargo +nightly fuzz run --fuzz-dir . $$target -- \
	        -max_total_time=$(SECONDS) -max_len=4096 -timeout=10 -dict=words.dict \
	        || exit 1; \
	done

# What the drill is told, for example: make drill ARGS="--only clear --requests 5000"
drill: deps ## replay the outage, and its relatives, against real processes under load
	cargo build --release --bins
	target/release/drill --markdown docs/drill.md $(ARGS)

# Namespaces, what filters and queues in them, and clocks that are wrong. The containers
# need a Docker engine and its compose, which are not installed for you.
deps-chaos: deps
	@missing=; \
	command -v ip >/dev/null && command -v tc >/dev/null || missing="$$missing iproute2"; \
	command -v nft >/dev/null || missing="$$missing nftables"; \
	command -v unshare >/dev/null && command -v nsenter >/dev/null || missing="$$missing util-linux"; \
	ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || missing="$$missing faketime"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	else \
	    echo "missing packages:$$missing (on Debian or Ubuntu: sudo apt-get install$$missing)" >&2; \
	    exit 1; \
	fi

# What it is told, for example: make chaos ARGS="--setting namespaces --requests 5000"
chaos: deps-chaos ## what may go wrong around the nodes, in namespaces and containers, under load
	cargo build --release --bins
	target/release/chaos --markdown docs/chaos.md $(ARGS)

bench: deps ## this project and its peers, side by side
	bench/run

scale: ## simulate thousands of edges, and write docs/scale.md anew
	cargo run --release -p scale -- --write

# The newer compose where it is there, otherwise the older one.
COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

compose: compose-keys ## the demo's topology in containers
	HEADWATER_KEYS_GROUP=$$(ls -ln deploy/keys/edge-1.key | awk '{print $$4}') $(COMPOSE) up

# One service is enough: all of them share the image.
compose-keys: ## the containers' image, and their signing keys where they are missing
	$(COMPOSE) build origin
	deploy/make-keys deploy/keys docker run --rm --network none headwater:local headwater

compose-test: deps ## bring the containers up, drive them, take them down
	tests/compose/run.sh

clean: ## remove what was built
	cargo clean
