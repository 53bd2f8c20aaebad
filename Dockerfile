# The binary alone, started as redis-server. /data holds what it saves, as in the image it replaces.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends make gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin redstart && mkdir -p /image/usr/local/bin /image/data /image/etc \
    && cp target/release/redstart /image/usr/local/bin/redstart \
    && for name in redis-server redis-sentinel redis-check-rdb redis-check-aof; do ln -s redstart /image/usr/local/bin/$name; done \
    && echo 'redis:x:999:999::/data:/sbin/nologin' > /image/etc/passwd && echo 'redis:x:999:' > /image/etc/group

# gcr's cc image has the C library the binary is linked with, and a time zone data base; no shell.
FROM gcr.io/distroless/cc-debian12
COPY --from=build /image /
COPY --from=build --chown=999:999 /image/data /data
USER redis
VOLUME /data
WORKDIR /data
EXPOSE 6379
ENTRYPOINT ["redis-server"]
CMD ["--protected-mode", "no"]
