# `make help` lists the targets. CI runs `make ci`, nothing else.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo

# Servers that the tests start themselves, and tools that they ask, as COMMAND:DEBIAN-PACKAGE.
TEST_SERVERS := docker-registry:docker-registry nats-server:nats-server redis-server:redis-server promtool:prometheus

# For `make bench`: `--quick` takes a minute and writes to target/benchmarks.md.
BENCH_ARGUMENTS ?=

# Seconds that `make fuzz` spends on each target.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := keys links manifests registry_config

.PHONY: help ci lint test test-servers nextest docs bench fuzz

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | column -t -s '|'

ci: lint test ## Everything that CI runs: lint, then test

lint: ## Formatting, clippy and the documentation build, all without warnings
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path tests/fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

# The tests start the binaries, so those are built first, in the profile of the tests; together with these, because the tests' own
# dependencies give others more features, and all would be built twice.
test: test-servers nextest ## Install what the tests need where it is missing, then run them all
	$(CARGO) build --workspace --bins --tests --features failpoints
	$(CARGO) test --workspace --doc --features failpoints
	$(CARGO) nextest run --workspace --features failpoints

# A package's own service need not start (the tests start theirs): what counts is that the command is there.
test-servers: ## Install the servers that the tests start (Debian, as root or with sudo)
	@missing=(); \
	for server in $(TEST_SERVERS); do \
	    command -v "$${server%%:*}" >/dev/null || missing+=("$${server##*:}"); \
	done; \
	if [ $${#missing[@]} -eq 0 ]; then exit 0; fi; \
	echo "installing $${missing[*]}"; \
	as_root=(); \
	if [ "$$(id -u)" -ne 0 ]; then as_root=(sudo); fi; \
	"$${as_root[@]}" apt-get update; \
	"$${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y --no-install-recommends "$${missing[@]}" \
	    || echo "apt-get failed; going on if the commands are there"; \
	for server in $(TEST_SERVERS); do \
	    command -v "$${server%%:*}" >/dev/null || { echo "$${server%%:*} is missing: apt-get install $${server##*:}"; exit 1; }; \
	done

nextest:
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install cargo-nextest --locked

# A test fails where docs/metrics.md is not what the programs' metrics are.
docs: ## Write docs/metrics.md anew from the metrics that the programs register
	$(CARGO) run --package hardprune-tests --bin metrics-document

bench: test-servers ## Measure against the stock collector, side by side, into docs/benchmarks.md
	$(CARGO) build --release --bin hardprune --bin hardprune-worker
	$(CARGO) run --release --package hardprune-tests --bin bench -- $(BENCH_ARGUMENTS)

# New inputs go to the target folder; a good one is copied to tests/fuzz/corpus by hand, under a name that says why.
fuzz: ## Fuzz each target for FUZZ_SECONDS (needs cargo-fuzz and a C++ compiler; stable Rust will do)
	cd tests; \
	for target in $(FUZZ_TARGETS); do \
	    mkdir -p "fuzz/target/corpus/$$target"; \
	    $(CARGO) fuzz run --sanitizer none "$$target" "fuzz/target/corpus/$$target" "fuzz/corpus/$$target" \
	        -- -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; \
	done
