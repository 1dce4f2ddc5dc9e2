#!/usr/bin/env bash
# Prints the folder of a Prometheus server and its promtool for the tests, and installs them if
# there are none.
#
#   tests/prometheus.sh
#
# Takes, in this order: $PORTHOLE_PROMETHEUS_DIR, what is on the PATH, what it installed before,
# Debian's package unpacked without root. What it installs is kept in $PORTHOLE_TEST_CACHE, outside
# the checkout.
set -euo pipefail

# Whether both programs of the folder $1 start here.
runs() {
  [ -n "$1" ] && "$1/prometheus" --version >/dev/null 2>&1 && "$1/promtool" --version >/dev/null 2>&1
}

if [ -n "${PORTHOLE_PROMETHEUS_DIR:-}" ]; then
  runs "$PORTHOLE_PROMETHEUS_DIR" || { echo "what is in PORTHOLE_PROMETHEUS_DIR does not run" >&2; exit 1; }
  (cd "$PORTHOLE_PROMETHEUS_DIR" && pwd)
  exit
fi
found=$(command -v prometheus || true)
if runs "${found%/*}"; then
  echo "${found%/*}"
  exit
fi

cache=${PORTHOLE_TEST_CACHE:-$HOME/.cache/porthole-tests}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
folder=$cache/prometheus
if runs "$folder"; then
  echo "$folder"
  exit
fi

# Built beside and moved into place at once, so that neither a second run nor a broken one is seen.
work=$(mktemp -d "$cache/prometheus.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The programs need the C library alone; the package's other needs are for its web pages.
from_debian() {
  mkdir -p "$work/debs" "$work/root"
  # A new machine may not know what there is yet.
  (cd "$work/debs" && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; }) || return 1
  dpkg -x "$work"/debs/prometheus_*.deb "$work/root" || return 1
  mkdir "$work/new"
  mv "$work/root/usr/bin/prometheus" "$work/root/usr/bin/promtool" "$work/new"
  runs "$work/new"
}

from_debian >&2 || {
  echo "no Prometheus: install prometheus, or name its folder in PORTHOLE_PROMETHEUS_DIR" >&2
  exit 1
}
# Another run may have been first; its server is as good.
mv -T "$work/new" "$folder" 2>/dev/null || true
if ! runs "$folder"; then
  rm -rf "$folder"
  mv -T "$work/new" "$folder"
fi
echo "$folder"
