# docker build -t mtlsd .
# docker run --rm mtlsd version
#
# The image holds the binary, the C library, the certificate
# authorities of Debian, and no shell. It runs as user and group 65532, needs no capability, and
# writes nothing (use --read-only --cap-drop ALL).

FROM docker.io/library/rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="mtlsd" \
      org.opencontainers.image.description="An mTLS forward proxy daemon" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /src/target/release/mtlsd /usr/bin/mtlsd
USER 65532:65532
WORKDIR /
# Reads /etc/mtlsd/mtlsd.toml, or what MTLSD_CONFIG names, or the variables MTLSD_TO, MTLSD_CERT ...
ENTRYPOINT ["/usr/bin/mtlsd"]
CMD ["run"]
