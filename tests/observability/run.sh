#!/usr/bin/env bash
# Tests what Porthole can be watched with: the dashboard against Grafana's own types, the rules with
# promtool, and every query of both against a real Prometheus that scrapes a Porthole binary.
#
#   tests/observability/run.sh BINARY [pytest arguments]
#
# Needs Python 3.10 or newer with venv, and Node with npm. What it installs is kept in
# $PORTHOLE_TEST_CACHE, outside the checkout, and installed anew when the requirements change.
set -euo pipefail

if [ $# -lt 1 ] || [ ! -x "$1" ]; then
  echo "usage: $0 BINARY [pytest arguments]" >&2
  exit 2
fi
binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PORTHOLE_TEST_CACHE:-$HOME/.cache/porthole-tests}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

# Whether DIRECTORY was completed for exactly these words; `done_for` says that it now is.
is_for() { [ -f "$1/.installed-for" ] && [ "$(cat "$1/.installed-for")" = "$2" ]; }
done_for() { printf '%s' "$2" >"$1/.installed-for"; }

venv=$cache/venv-observability
wanted="$(python3 --version) $(cksum <"$here/requirements.txt")"
if ! is_for "$venv" "$wanted"; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  done_for "$venv" "$wanted"
fi

# Grafana's types, and of its data library the one file that lists its units: the library itself has
# two hundred packages under it.
data=@grafana/data@13.2.3
units_sum=39e99706205499b07a3cffa4e05062b89153fcff0a32777595b1e68413c513c9
packages=$cache/node-observability
wanted="$(cat "$here/package.json" "$here/package-lock.json" | cksum) $data"
if ! is_for "$packages" "$wanted"; then
  rm -rf "$packages"
  mkdir -p "$packages"
  cp "$here/package.json" "$here/package-lock.json" "$packages"
  (
    cd "$packages"
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    archive=$(npm pack --silent --ignore-scripts "$data")
    tar -xzf "$archive" --strip-components=4 package/dist/esm/valueFormats/categories.mjs
    rm "$archive"
    echo "$units_sum  categories.mjs" | sha256sum --quiet --check -
  )
  done_for "$packages" "$wanted"
fi

PORTHOLE_TEST_PROMETHEUS_DIR=$("$here/../prometheus.sh")
PORTHOLE_TEST_REDIS_SERVER=$("$here/../redis.sh")
PORTHOLE_TEST_NODE=$(command -v node)
export PORTHOLE_TEST_PROMETHEUS_DIR PORTHOLE_TEST_REDIS_SERVER PORTHOLE_TEST_NODE
export PORTHOLE_TEST_BINARY=$binary
export PORTHOLE_TEST_NODE_MODULES=$packages/node_modules
export PORTHOLE_TEST_GRAFANA_UNITS=$packages/categories.mjs
# What is here is reached directly, and nothing is left in the checkout.
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 PYTHONDONTWRITEBYTECODE=1

"$venv/bin/python" -m pytest -q -p no:cacheprovider "$here" "$@"
