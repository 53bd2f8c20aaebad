# The binary under redis-server's name, started the way the redis:7.2 image starts Redis. /data holds what it saves.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends make gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin redstart

FROM debian:bookworm-slim
RUN groupadd -r -g 999 redis && useradd -r -g redis -u 999 redis && mkdir /data && chown redis:redis /data
# redis-cli, which health checks call, is Debian's; Redis's time zones are in the image it replaces, so they are here.
RUN apt-get update && apt-get install -y --no-install-recommends redis-tools tzdata && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/redstart /usr/local/bin/redstart
RUN for name in redis-server redis-check-rdb redis-check-aof; do ln -s redstart /usr/local/bin/$name; done
# As in the image it replaces: options alone, or a configuration file, are for the server; it owns its directory and is
# not root; protected mode is off unless somebody asks for it.
COPY <<'SCRIPT' /usr/local/bin/docker-entrypoint.sh
#!/bin/sh
set -e
case "${1:-}" in
  -* | *.conf) set -- redis-server "$@" ;;
esac
if [ "$1" = redis-server ]; then
  asked=no
  for word in "$@"; do
    case "$word" in *protected-mode*) asked=yes ;; esac
    if [ -f "$word" ] && grep -qi '^[[:space:]]*protected-mode' "$word"; then asked=yes; fi
  done
  [ $asked = yes ] || set -- "$@" --protected-mode no
fi
# What the server saves is for its owner alone; somebody's own umask stays.
if [ "$(umask)" = 0022 ]; then umask 0077; fi
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
  find . \! -user redis -exec chown redis '{}' +
  exec setpriv --reuid=redis --regid=redis --clear-groups "$@"
fi
exec "$@"
SCRIPT
RUN chmod +x /usr/local/bin/docker-entrypoint.sh
VOLUME /data
WORKDIR /data
EXPOSE 6379
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["redis-server"]
