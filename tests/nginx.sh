#!/usr/bin/env bash
# Prints the path of an nginx for the tests, and installs one if there is none.
#
#   tests/nginx.sh
#
# Takes, in this order: $PORTHOLE_NGINX, what is on the PATH or in /usr/sbin, what it installed
# before, Debian's package unpacked without root. What it installs is kept in $PORTHOLE_TEST_CACHE,
# outside the checkout.
set -euo pipefail

# Whether $1 is an nginx that starts here and speaks TLS and HTTP/2.
runs() {
  [ -n "$1" ] && [ -x "$1" ] || return 1
  local said
  said=$("$1" -V 2>&1) || return 1
  [[ $said == *http_ssl_module* && $said == *http_v2_module* ]]
}

if [ -n "${PORTHOLE_NGINX:-}" ]; then
  runs "$PORTHOLE_NGINX" || { echo "PORTHOLE_NGINX does not run, or lacks TLS or HTTP/2" >&2; exit 1; }
  echo "$PORTHOLE_NGINX"
  exit
fi
for found in "$(command -v nginx || true)" /usr/sbin/nginx; do
  if runs "$found"; then
    echo "$found"
    exit
  fi
done

cache=${PORTHOLE_TEST_CACHE:-$HOME/.cache/porthole-tests}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
server=$cache/nginx/server
if runs "$server"; then
  echo "$server"
  exit
fi

# Built beside and moved into place at once, so that neither a second run nor a broken one is seen.
work=$(mktemp -d "$cache/nginx.XXXXXX")
trap 'rm -rf "$work"' EXIT

from_debian() {
  mkdir -p "$work/new/root" "$work/debs"
  local packages='nginx libpcre2-8-0 libssl3 zlib1g libcrypt1'
  # A new machine may not know what there is yet.
  # shellcheck disable=SC2086
  (cd "$work/debs" && { apt-get download $packages || { apt-get update && apt-get download $packages; }; }) || return 1
  local deb
  for deb in "$work"/debs/*.deb; do
    dpkg -x "$deb" "$work/new/root" || return 1
  done
  # The libraries lie beside it, not where the loader looks.
  cat >"$work/new/server" <<'SCRIPT'
#!/bin/sh
root=$(dirname "$0")/root
LD_LIBRARY_PATH=$(echo "$root"/usr/lib/*-linux-gnu*):$(echo "$root"/lib/*-linux-gnu*) exec "$root/usr/sbin/nginx" "$@"
SCRIPT
  chmod +x "$work/new/server"
  runs "$work/new/server"
}

from_debian >&2 || {
  echo "no nginx: install it, or name one in PORTHOLE_NGINX" >&2
  exit 1
}
# Another run may have been first; its server is as good.
mv -T "$work/new" "$cache/nginx" 2>/dev/null || true
if ! runs "$server"; then
  rm -rf "$cache/nginx"
  mv -T "$work/new" "$cache/nginx"
fi
echo "$server"
