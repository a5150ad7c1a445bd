# `make help` lists the targets. CARGO_TARGET_DIR is respected everywhere.
.DEFAULT_GOAL := help
.PHONY: help deps build-deps build test demo fuzz bench-rafs bench-datapath bench-fetch bench-start scale-test crash-fill model-check lint fmt doc deny sizes clean
CARGO ?= cargo
TIME ?= 1800

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

deps: ## Install what tests and demo need from Debian (only what is missing)
	@scripts/install-deps.sh all

build-deps:
	@scripts/install-deps.sh build

build: build-deps ## Build the two binaries, optimised
	$(CARGO) build --release --locked -p converter -p snapshotter

test: deps ## Install what is missing, build once, run all tests
	@scripts/run-tests

demo: deps ## Convert a real image, run it lazily under containerd, compare with overlayfs
	$(CARGO) build --release --locked -p converter -p snapshotter -p integration --bins
	@scripts/run-demo

fuzz: build-deps ## Fuzz every parser, TIME seconds each, 1800 unless given (needs cargo-fuzz)
	@TIME=$(TIME) scripts/fuzz

bench-rafs: build-deps ## Measure opening, walking and looking up in an image of 500,000 inodes
	$(CARGO) build --release --locked -p integration --bin bench_rafs
	@"$${CARGO_TARGET_DIR:-target}/release/bench_rafs" "$${CARGO_TARGET_DIR:-target}/bench/rafs.jsonl"

bench-datapath: deps ## Measure reading one tree through ext4, overlayfs and Slipway (root, about 8 minutes)
	$(CARGO) build --release --locked -p converter -p snapshotter -p integration --bins
	@"$${CARGO_TARGET_DIR:-target}/release/bench_datapath" "$${CARGO_TARGET_DIR:-target}/bench/datapath.jsonl"

bench-fetch: deps ## Measure how soon containers are ready over lines of several rates, and the cost of 10 GB (root, 10 GB of disk, about 25 minutes; CASES="rss-stream demand" only those)
	$(CARGO) build --release --locked -p converter -p snapshotter -p integration --bins
	@"$${CARGO_TARGET_DIR:-target}/release/bench_fetch" "$${CARGO_TARGET_DIR:-target}/bench/fetch.jsonl" $(CASES)

bench-start: deps ## Measure cold starts with and without batches of small files (root, about 5 minutes)
	$(CARGO) build --release --locked -p converter -p snapshotter -p integration --bins
	@"$${CARGO_TARGET_DIR:-target}/release/bench_start" "$${CARGO_TARGET_DIR:-target}/bench/start.jsonl"

scale-test: deps ## Show 300 images at once, and 1,000 one after the other
	$(CARGO) build --locked --workspace --bins
	SLIPWAY_SCALE_IMAGES=300 SLIPWAY_SCALE_CYCLES=1000 \
		$(CARGO) test --locked -p integration --test it -- --test-threads 1 --nocapture node::scale::

crash-test: deps ## Kill the daemon a thousand times under readers, on both tiers, near and far from the registry
	$(CARGO) build --locked --workspace --bins
	SLIPWAY_CRASH_KILLS=1000 SLIPWAY_CRASH_SECONDS=1200 SLIPWAY_CRASH_STALL_MS=300 \
		$(CARGO) test --locked -p integration --test it -- --test-threads 1 --nocapture node::crash::

crash-fill: deps ## Kill the daemon 200 times while it fills its cache, and 200 times while it evicts
	$(CARGO) build --locked --workspace --bins
	SLIPWAY_FILL_KILLS=200 SLIPWAY_FILL_SECONDS=900 \
		$(CARGO) test --locked -p integration --test it -- --nocapture semantics::daemons_die

model-check: build-deps ## Run flights, queue and account of the cache under many thousand schedules
	$(CARGO) test --locked -p fuse --features model --lib -- model::

lint: build-deps sizes ## Formatting, clippy, file sizes
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

sizes:
	@scripts/check-sizes

fmt: ## Format the sources
	$(CARGO) fmt --all

doc: build-deps ## Build the API documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

deny: ## Licences, advisories and duplicate crates (needs cargo-deny)
	$(CARGO) deny --locked check

clean: ## Remove build results; the cache of test images stays
	$(CARGO) clean
