# The operator and recorder: one binary, libc, CA certificates and time zones, for an unprivileged user.
#
#   docker build .                                    builds from source, for this machine's platform
#   docker build --platform linux/arm64 .             builds for another platform, under emulation
#   docker build --build-arg BINARY=prebuilt .        takes the file `toezicht` beside this one instead of building
#
# BUILDER needs Rust (rust-toolchain.toml names the version) and a C compiler. BASE needs glibc, libgcc, CA
# certificates and time zones, and nothing else; its glibc must not be older than that of BUILDER.
ARG BUILDER=docker.io/library/rust:1.95-bookworm
ARG BASE=gcr.io/distroless/cc-debian12:nonroot
ARG BINARY=built

FROM ${BUILDER} AS built
WORKDIR /build
COPY . .
RUN cargo build --locked --release --bin toezicht && cp target/release/toezicht /toezicht

FROM scratch AS prebuilt
COPY toezicht /toezicht

FROM ${BINARY} AS binary

FROM ${BASE}
COPY --from=binary /toezicht /usr/bin/toezicht
USER 65532:65532
ENTRYPOINT ["/usr/bin/toezicht"]
