# Commands for people. Every line does one thing and can also be typed by hand.
TESTBED = tests/testbed/bed
DEMO = tests/testbed/demo
# `setup` installs Rust here if the machine has none.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

# With both KUBECONFIG and TOEZICHT_TEST_S3, the targets use that cluster and that store instead of the test bed.
HAVE_EXTERNAL = $(and $(KUBECONFIG),$(TOEZICHT_TEST_S3))

.PHONY: help setup demo demo-shell demo-down test check test-unit test-simulation test-requests \
  test-integration test-crash test-lifecycle chaos test-external testbed-up testbed-reset image book \
  bench-storage bench-holds bench-scale crds
help:              ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 20

# For the demonstration alone, `setup` leaves out what only the tests need.
SETUP = $(if $(filter-out demo demo-shell demo-down,$(MAKECMDGOALS)),all,demo)
# IMAGE_BUILD=--tests also builds the tests, which use more features of the libraries.
setup:             ## install and build everything: packages, Rust, Go, Kubernetes, S3 servers, the operator
	tests/testbed/setup $(SETUP)

demo: $(if $(HAVE_EXTERNAL),,image)  ## run the Heusden protocol on a real cluster, S3 server and cameras on this machine
	$(if $(HAVE_EXTERNAL),,$(TESTBED) days real)
	$(if $(HAVE_EXTERNAL),,$(TESTBED) run) $(DEMO)/run

demo-shell:        ## open a shell inside the test bed: kubectl, helm, ffprobe, boto3
	$(TESTBED) shell

demo-down:         ## remove the demonstration; with the test bed, stop it and leave nothing behind
	$(if $(HAVE_EXTERNAL),$(DEMO)/remove,$(TESTBED) down)

test: setup check test-unit test-integration test-external  ## run everything that CI runs
# A few tests are enough to show that the settings alone suffice.
test: EXTERNAL_TESTS = admission::default_server storage::adoption::seaweedfs_ storage::holds::seaweedfs_

check:             ## check formatting, lints, links in comments, licences and the book
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo doc --locked --no-deps --document-private-items --quiet
	cargo deny check bans licenses sources
	mdbook build

book:              ## build the documentation into target/book and check its links
	mdbook build

test-unit:         ## run unit and property tests, the architecture tests, the hold model and a short simulation
	cargo test --locked --no-run --lib --bins --test architecture --test reference --test prose --test model --test sim
	# Some unit tests wait for a long time while the model computes, so they run side by side.
	cargo test --locked --test model --test sim & model=$$!; \
	cargo test --locked --lib --bins --test architecture --test reference --test prose -- --test-threads=8; others=$$?; \
	wait $$model && exit $$others

# SEED=7 runs one seed. STEPS sets the number of requests, FROM the first seed.
STEPS = 1000000
test-simulation:   ## run the real code against a simulated store that gives wrong answers, from many seeds (minutes); SEED=… repeats one
	SEED=$(SEED) STEPS=$(STEPS) FROM=$(FROM) cargo test --locked --test sim -- --nocapture seeds

test-requests:     ## count the requests of whole days and compare them with docs/development/request-costs.md (15 min)
	cargo test --locked --test sim -- --nocapture --ignored requests

test-integration: testbed-reset image  ## run the tests against real API servers, kubelet, S3 servers and cameras
	cargo test --locked --no-run --test it
	$(TESTBED) run tests/testbed/suite

test-crash: image  ## kill the operator and the probe after every request of holds, and after every write of other changes (90 min)
	cargo test --locked --no-run --test it
	$(TESTBED) days real
	$(TESTBED) run env TOEZICHT_TEST_KILL_EVERY=1 cargo test --offline --locked --test it -- \
	  operator::killed stopped_probe_leaves_nothing next_run_repairs_interrupted_run --nocapture

test-lifecycle: image  ## let an incident outlive ten ceilings on a store whose lifecycle days last seconds (10 min)
	cargo test --locked --no-run --test it
	$(TESTBED) days 10
	$(TESTBED) run env TOEZICHT_TEST_LIFECYCLE=10 cargo test --offline --locked --test it -- lifecycle::incident --nocapture

# SEED=7 repeats the schedule of an earlier run.
MINUTES = 30
chaos: CAMERAS = 20
chaos: testbed-reset image  ## disturb pods, nodes, stores, API server, Secrets, cameras and upgrades for 30 min; SEED=… repeats a schedule
	cargo test --locked --no-run --test it
	$(TESTBED) run env TOEZICHT_CHAOS_SEED=$(SEED) TOEZICHT_CHAOS_MINUTES=$(MINUTES) TOEZICHT_CHAOS_CAMERAS=$(CAMERAS) \
	  cargo test --offline --locked --test it -- chaos::long --ignored --nocapture

EXTERNAL_TESTS = default_server seaweedfs_
test-external: $(if $(HAVE_EXTERNAL),,testbed-up)  ## run the tests that need only a cluster and an S3 endpoint, with those settings alone
	$(if $(HAVE_EXTERNAL),,$(TESTBED) run) sh -c 'exec env -i PATH="$$PATH" HOME="$$HOME" \
	  $${RUSTUP_HOME:+"RUSTUP_HOME=$$RUSTUP_HOME"} $${CARGO_HOME:+"CARGO_HOME=$$CARGO_HOME"} KUBECONFIG="$$KUBECONFIG" \
	  TOEZICHT_TEST_S3="$$TOEZICHT_TEST_S3" cargo test --offline --locked --test it -- $(EXTERNAL_TESTS)'

testbed-up: setup  ## start the test bed, unless it already runs
	$(TESTBED) up

testbed-reset: setup  ## restart the test bed without anything that an earlier run left
	$(TESTBED) down
	$(TESTBED) up

image: testbed-up  ## build the image from Dockerfile and import it into the test bed
	$(TESTBED) image target/debug/toezicht

# SEGMENTS is the number of segments swept or held (audits read twice as many), ROUNDS the number of turns of each side.
SEGMENTS = 8000
ROUNDS = 3

bench-storage: testbed-up  ## compare sweep and audit with boto3, mc, bare loops and the store's limit; writes docs/development/benchmarks.md
	benches/run storage --segments $(SEGMENTS) --rounds $(ROUNDS)

bench-holds: image  ## compare placing and releasing holds with boto3, mc and the store's limit; writes docs/development/benchmarks.md
	benches/run holds --segments $(SEGMENTS) --rounds $(ROUNDS)

# REST is the period in seconds over which requests at rest are counted: the longest in which a status is refreshed.
SITES = 1000
REST = 900

bench-scale: CAMERAS = 10000
bench-scale: testbed-reset  ## run the operator with 1,000 Sites on a real API server, beside kubectl; writes docs/development/benchmarks.md
	benches/run scale --sites $(SITES) --cameras $(CAMERAS) --rest $(REST)

crds:              ## generate crds/, the chart's copies and the reference pages from src/api and src/cli
	cargo run --locked -- crds --dir crds
	cp crds/*.yaml charts/toezicht/files/crds/
	TOEZICHT_WRITE_EXPECTED=1 cargo test --locked --test reference
