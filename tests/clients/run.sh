#!/usr/bin/env bash
# Tests a Porthole binary with the clients that people use: the OpenAI SDKs for Python and
# JavaScript, LangChain, LlamaIndex, instructor and the AI SDK, each as its registry ships it; and
# with the requests that schemathesis makes up from /openapi.json.
#
#   tests/clients/run.sh BINARY
#
# Needs Python 3.10 or newer with venv, and Node with npm. What it installs is kept in
# $PORTHOLE_TEST_CACHE, outside the checkout, and installed anew when the requirements change.
set -euo pipefail

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
  echo "usage: $0 BINARY" >&2
  exit 2
fi
binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${PORTHOLE_TEST_CACHE:-$HOME/.cache/porthole-tests}
mkdir -p "$cache"
# Absolute, because the programs below start elsewhere.
cache=$(cd "$cache" && pwd)

# --- What the tests need ---------------------------------------------------------------------

# Whether DIRECTORY was completed for exactly these words; `done_for` says that it now is.
is_for() { [ -f "$1/.installed-for" ] && [ "$(cat "$1/.installed-for")" = "$2" ]; }
done_for() { printf '%s' "$2" >"$1/.installed-for"; }

# Makes the virtual environment DIRECTORY of REQUIREMENTS.
environment() {
  local wanted
  wanted="$(python3 --version) $(cksum <"$2")"
  if ! is_for "$1" "$wanted"; then
    rm -rf "$1"
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check -r "$2"
    done_for "$1" "$wanted"
  fi
}

venv=$cache/venv
environment "$venv" "$here/requirements.txt"
# Some libraries still need the OpenAI SDK's second version.
venv2=$cache/venv-openai2
environment "$venv2" "$here/openai2/requirements.txt"

# The SDKs need Node 22. Where the system's is older, the registry's package `node` has one.
node=$(command -v node)
if ! "$node" -e 'process.exit(parseInt(process.versions.node) >= 22 ? 0 : 1)'; then
  node=$cache/node22/node_modules/node/bin/node
  if [ ! -x "$node" ]; then
    mkdir -p "$cache/node22"
    npm install --prefix "$cache/node22" --no-audit --no-fund --no-save --loglevel=error node@22
  fi
fi

packages=$cache/node
wanted=$(cat "$here/package.json" "$here/package-lock.json" | cksum)
if ! is_for "$packages" "$wanted"; then
  rm -rf "$packages"
  mkdir -p "$packages"
  cp "$here/package.json" "$here/package-lock.json" "$packages"
  # None of the packages has an install script; the engines are checked above, for the Node used.
  (cd "$packages" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  done_for "$packages" "$wanted"
fi

# --- The servers -----------------------------------------------------------------------------

work=$(mktemp -d "$packages/run.XXXXXX")
server='' images='' passed=''

finish() {
  for pid in $server $images; do
    kill "$pid" 2>/dev/null || true
    # A server that does not go when asked must not outlive the tests.
    for _ in $(seq 50); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  if [ -z "$passed" ] && [ -f "$work/server.log" ]; then
    echo "--- the server's log ---"
    cat "$work/server.log"
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Three ports, free at the same time.
read -r port admin_port images_port < <("$venv/bin/python" - <<'PYTHON'
import socket

sockets = [socket.socket() for _ in range(3)]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))
PYTHON
)

export PORTHOLE_TEST_URL=http://127.0.0.1:$port
export PORTHOLE_TEST_ADMIN_URL=http://127.0.0.1:$admin_port
export PORTHOLE_TEST_IMAGES_URL=http://127.0.0.1:$images_port
export PORTHOLE_TEST_DEMO=$root/models/demo
# Some tests start a server of their own.
export PORTHOLE_TEST_BINARY=$binary
# Larger than what sockets buffer, so that a refusal meets a client that is still sending, and small
# enough to send in no time.
export PORTHOLE_TEST_MAX_BODY_BYTES=8388608
# The SDKs obey proxy settings; what is here is reached directly.
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
# Nothing is left in the checkout.
export PYTHONDONTWRITEBYTECODE=1
# No client tells anybody that it ran.
export LANGSMITH_TRACING=false DO_NOT_TRACK=1 SCHEMATHESIS_TELEMETRY=false

(cd "$root" && exec "$venv/bin/python" -m http.server "$images_port" --bind 127.0.0.1 \
  --directory models/demo/images >/dev/null 2>&1) &
images=$!

# Keys as an operator makes them.
export PORTHOLE__AUTH__KEYS_FILE=$work/keys.toml PORTHOLE__LIMITS__STORE=$work/usage.redb
new_key() { "$binary" key create "$@" 2>/dev/null; }
PORTHOLE_TEST_KEY=$(new_key tests --roles mint_tokens)
PORTHOLE_TEST_BRISK_KEY=$(new_key brisk --rpm 30 --tpm 6000)
PORTHOLE_TEST_SINGLE_KEY=$(new_key single --concurrency 1)
PORTHOLE_TEST_SPENT_KEY=$(new_key spent --tokens-per-month 1)
PORTHOLE_TEST_OTHER_KEY=$(new_key other --models other)
PORTHOLE_TEST_AWAY_KEY=$(new_key away --networks 203.0.113.0/24)
PORTHOLE_TEST_REVOKED_KEY=$(new_key revoked)
"$binary" key revoke revoked 2>/dev/null
export PORTHOLE_TEST_KEY PORTHOLE_TEST_BRISK_KEY PORTHOLE_TEST_SINGLE_KEY PORTHOLE_TEST_SPENT_KEY \
  PORTHOLE_TEST_OTHER_KEY PORTHOLE_TEST_AWAY_KEY PORTHOLE_TEST_REVOKED_KEY

(cd "$root" && exec env \
  PORTHOLE__SERVER__BIND="127.0.0.1:$port" \
  PORTHOLE__SERVER__ADMIN_BIND="127.0.0.1:$admin_port" \
  PORTHOLE__SERVER__MAX_BODY_BYTES="$PORTHOLE_TEST_MAX_BODY_BYTES" \
  PORTHOLE__IMAGES__ALLOW_PRIVATE_ADDRESSES=true \
  PORTHOLE__IMAGES__ALLOWED_PORTS="[80, 443, $images_port]" \
  PORTHOLE__SERVER__CORS_ORIGINS='["https://app.example.com"]' \
  PORTHOLE__LIMITS__MAX_QUEUE_LENGTH=200 \
  PORTHOLE__SERVER__DRAIN_DELAY=0 \
  PORTHOLE__LOG__FILTER=porthole=trace,info \
  "$binary" >"$work/audit.log" 2>"$work/server.log") &
server=$!

# Succeeds when URL answers 200 before its process ends or two minutes have passed.
wait_for() {
  for _ in $(seq 600); do
    if "$venv/bin/python" -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5)' "$2" 2>/dev/null; then
      return
    fi
    if ! kill -0 "$1" 2>/dev/null; then
      echo "the process behind $2 ended" >&2
      exit 1
    fi
    sleep 0.2
  done
  echo "$2 was not ready in time" >&2
  exit 1
}
wait_for "$images" "$PORTHOLE_TEST_IMAGES_URL/"
wait_for "$server" "$PORTHOLE_TEST_URL/ready"

# --- The tests -------------------------------------------------------------------------------

failed=''
pytest=(-m pytest -q -p no:cacheprovider)
"$venv/bin/python" "${pytest[@]}" "$here" --ignore="$here/openai2" || failed=yes
"$venv2/bin/python" "${pytest[@]}" "$here/openai2" || failed=yes

# Modules are looked for beside and above the file that imports them, so the files go to the
# packages. One file at a time: some tests count the tokens of the whole server.
cp "$here"/*.mjs "$work"
(cd "$work" && "$node" --test --test-concurrency=1 --test-reporter=spec ./*.test.mjs) || failed=yes

# --- What must not be in the logs ------------------------------------------------------------

lines=$(wc -l <"$work/audit.log")
if [ "$lines" -lt 200 ]; then
  echo "the audit log has only $lines lines" >&2
  failed=yes
fi
for name in ${!PORTHOLE_TEST_@}; do
  [[ $name == *_KEY ]] || continue
  if grep -qF -- "${!name#pk-}" "$work/audit.log" "$work/server.log"; then
    echo "$name is in a log" >&2
    failed=yes
  fi
done
# A prompt, a query, a token and the beginning of every PNG in base64.
if grep -nE 'CANARY|eyJ[A-Za-z0-9_-]{10,}\.|iVBORw0KGgo' "$work/audit.log" "$work/server.log" | head -3 | cut -c -300 | grep .; then
  echo "a secret is in a log" >&2
  failed=yes
fi
echo "no secret in $lines audit lines"

[ -z "$failed" ] || exit 1
passed=yes
