# What a person types. Each line does one thing and can be typed by hand as well.
BED  = tests/testbed/bed
DEMO = tests/testbed/demo
# Where `setup` puts Rust if the machine has none.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

# With KUBECONFIG and TOEZICHT_TEST_S3 both given, that cluster and store are used; the test bed otherwise.
HAVE_OWN = $(and $(KUBECONFIG),$(TOEZICHT_TEST_S3))

.PHONY: help setup demo demo-shell demo-down test check unit sim requests it kills outlive own bed fresh image bench-storage bench-holds crds
help:            ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

setup:           ## install and build what is needed: packages, Rust, Go, Kubernetes, S3 servers
	tests/testbed/setup

demo: $(if $(HAVE_OWN),,image)  ## a real cluster, S3 and cameras on this machine; the Heusden protocol on them
	$(if $(HAVE_OWN),,$(BED) days real)
	$(if $(HAVE_OWN),,$(BED) run) $(DEMO)/run

demo-shell:      ## a shell inside the test bed: kubectl, helm, ffprobe, boto3
	$(BED) shell

demo-down:       ## remove the demonstration; with the test bed, that stops and leaves nothing behind
	$(if $(HAVE_OWN),$(DEMO)/remove,$(BED) down)

test: setup check unit it own  ## everything: what CI runs
# Enough to show that the settings alone do.
test: OWN = admission::default_server storage::adoption::seaweedfs_ storage::holds::seaweedfs_

check:           ## formatting, lints, licences
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo deny check bans licenses sources

unit:            ## pure and property tests, the architecture, the model of holds, and the simulation
	cargo test --locked --no-run --lib --bins --test architecture --test model --test sim
	# Some of the first wait for long, and the model computes: side by side.
	cargo test --locked --test model --test sim & model=$$!; \
	cargo test --locked --lib --bins --test architecture -- --test-threads=8; others=$$?; \
	wait $$model && exit $$others

# SEED=7 runs that seed alone. STEPS and FROM set how many requests there are, and the first seed.
STEPS = 1000000
sim:             ## the real code and a simulated store that lies, from many seeds: some minutes; SEED=… runs one again
	SEED=$(SEED) STEPS=$(STEPS) FROM=$(FROM) cargo test --locked --test sim -- --nocapture seeds

requests:        ## count the requests of whole days, and compare them with docs/storage.md: a quarter of an hour
	cargo test --locked --test sim -- --nocapture --ignored requests

it: fresh image  ## the tests against the real API servers, kubelet, S3 servers and cameras
	cargo test --locked --no-run --test it
	$(BED) run tests/testbed/suite

kills: image     ## operator and probe stopped after each step in turn: half an hour
	cargo test --locked --no-run --test it
	$(BED) days real
	$(BED) run env TOEZICHT_TEST_KILL_EVERY=1 cargo test --offline --locked --test it -- \
	  operator::killed stopped_it_leaves_nothing next_run_puts_it_right --nocapture

outlive: image   ## an incident that outlives ten ceilings of a store whose days are seconds: ten minutes
	cargo test --locked --no-run --test it
	$(BED) days 10
	$(BED) run env TOEZICHT_TEST_OUTLIVE=10 cargo test --offline --locked --test it -- lifecycle::incident --nocapture

OWN = default_server seaweedfs_
own: $(if $(HAVE_OWN),,bed)  ## the same tests as someone runs them who has a cluster and an S3 endpoint: with these settings alone
	$(if $(HAVE_OWN),,$(BED) run) sh -c 'exec env -i PATH="$$PATH" HOME="$$HOME" \
	  $${RUSTUP_HOME:+"RUSTUP_HOME=$$RUSTUP_HOME"} $${CARGO_HOME:+"CARGO_HOME=$$CARGO_HOME"} KUBECONFIG="$$KUBECONFIG" \
	  TOEZICHT_TEST_S3="$$TOEZICHT_TEST_S3" cargo test --offline --locked --test it -- $(OWN)'

bed: setup       ## the test bed, as it is or started
	$(BED) up

fresh: setup     ## the test bed, with nothing in it that another run left
	$(BED) down
	$(BED) up

image: bed       ## the image from Dockerfile, into the test bed
	cargo build --locked $(IMAGE_BUILD)
	$(BED) image target/debug/toezicht

# How many segments are swept or held (audited are twice as many), and how often each side has its turn.
SEGMENTS = 8000
ROUNDS = 3

bench-storage: bed  ## sweep and audit beside boto3, mc, bare loops and the store's ceiling; writes docs/benchmarks.md
	benches/run storage --segments $(SEGMENTS) --rounds $(ROUNDS)

bench-holds: image ## placing and releasing of holds beside boto3, mc and the store's ceiling; writes docs/benchmarks.md
	benches/run holds --segments $(SEGMENTS) --rounds $(ROUNDS)

crds:            ## write crds/, and the chart's copies of it, anew from src/api
	cargo run --locked -- crds --dir crds
	cp crds/*.yaml charts/toezicht/files/crds/
