# What runs in the cluster: the binary, libc, CA certificates and time zones, as a user without rights.
#   make image                                   builds the binary, then this
# BASE must have glibc, libgcc, CA certificates and time zones, and nothing else.
ARG BASE=gcr.io/distroless/cc-debian12:nonroot
FROM ${BASE}
ARG BINARY=target/release/toezicht
COPY ${BINARY} /usr/bin/toezicht
USER 65532:65532
ENTRYPOINT ["/usr/bin/toezicht"]
