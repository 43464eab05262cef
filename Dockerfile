# One image for every container of docker-compose.yml: the programs edge, upper-tier
# and headwater, and what they need to run. There is no entry point; the command says
# which of them runs.
#
# Builds with BuildKit and with the older builder of Engine 20.10, which knows no
# cache mounts.

FROM rust:1.95-bookworm AS builder

# zlib-ng, under pingora's compression, is built with cmake.
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /source
# By name, so that a change elsewhere starts no build. rust-toolchain.toml stays
# behind: it asks for rustfmt and clippy, which would be fetched for nothing.
COPY Cargo.toml Cargo.lock ./
COPY common common
COPY edge edge
COPY upper-tier upper-tier
COPY cli cli
COPY tests tests
RUN cargo build --release --locked --bins


FROM debian:bookworm-slim

# Authorities for origins that speak TLS.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 headwater \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir / \
        --shell /usr/sbin/nologin headwater

COPY --from=builder \
    /source/target/release/edge \
    /source/target/release/upper-tier \
    /source/target/release/headwater \
    /usr/local/bin/

# By number, so that `runAsNonRoot` elsewhere can tell.
USER 10001:10001

# Asks the node's admin listener at HEADWATER_ADMIN, 127.0.0.1:9081 by default.
HEALTHCHECK --interval=5s --timeout=6s --start-period=10s --retries=3 \
    CMD ["headwater", "health"]

CMD ["headwater", "--help"]
