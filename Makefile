# What a person types. Each line does one thing and can be typed by hand as well.
BED   = tests/testbed/bed

.PHONY: help demo test check unit it own bed image crds chart down shell 
help:            ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

demo: bed image  ## a real cluster, S3 and cameras on this machine; the Heusden protocol on them
	$(BED) run tests/testbed/demo/run

test: check unit it own  ## everything: what CI runs

check:           ## formatting, lints, licences
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo deny check bans licenses sources

unit:            ## pure and property tests, and the architecture
	cargo test --locked --lib --bins --test architecture

it: bed image    ## the tests against the real API servers, kubelet, S3 servers and cameras
	cargo test --locked --no-run --test it
	$(BED) run tests/testbed/suite

own: bed         ## the same tests as someone runs them who has a cluster and an S3 endpoint: with these settings alone
	$(BED) run sh -c 'exec env -i PATH="$$PATH" HOME="$$HOME" KUBECONFIG="$$KUBECONFIG" \
	  TOEZICHT_TEST_S3="$$TOEZICHT_TEST_S3" cargo test --offline --locked --test it -- default_server seaweedfs_'

bed:             ## the test bed: install what it needs, start it
	tests/testbed/setup
	$(BED) up

image:           ## the image from Dockerfile, into the test bed
	cargo build --locked
	$(BED) image target/debug/toezicht

crds:            ## write crds/, and the chart's copies of it, anew from src/api
	cargo run --locked -- crds --dir crds
	cp crds/*.yaml charts/toezicht/files/crds/

shell: bed       ## a shell inside the test bed: kubectl, helm, aws-like tools
	$(BED) shell

down:            ## stop the test bed; leaves nothing behind
	$(BED) down
