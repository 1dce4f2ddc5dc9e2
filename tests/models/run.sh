#!/usr/bin/env bash
# Tests what models answer through a Porthole binary: greedy answers of each architecture against
# those of transformers, and long streams of a small real model.
#
#   tests/models/run.sh BINARY
#
# Needs Python 3.10 or newer with venv, and a C compiler with binutils. What it installs and builds is
# kept in $PORTHOLE_TEST_CACHE, outside the checkout: transformers (1.6 GB), a small model of each
# architecture with random weights, what transformers answers with them, and SmolLM2 135M. Each is
# made anew when what it is made from changes.
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
cache=$(cd "$cache" && pwd)
export PORTHOLE_TEST_CACHE=$cache
# Compiled Python is kept, for transformers takes half a minute to compile, and not in the checkout.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX=$cache/pycache
# Nothing is looked for on the hub, nobody is told that this ran, what is here is reached directly.
export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
# Bars are for terminals.
export HF_HUB_DISABLE_PROGRESS_BARS=1 TQDM_DISABLE=1

# --- What the tests need ---------------------------------------------------------------------

venv=$cache/venv-models
wanted="$(python3 --version) $(cat "$here/requirements.txt" "$here/cpu_torch.py" | cksum)"
if [ ! -f "$venv/.installed-for" ] || [ "$(cat "$venv/.installed-for")" != "$wanted" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-compile \
    -r "$here/requirements.txt"
  "$venv/bin/python" "$here/cpu_torch.py"
  printf '%s' "$wanted" >"$venv/.installed-for"
fi
models=$("$venv/bin/python" "$here/build.py" | tee >(cat >&2) | tail -n 1)

# --- The server ------------------------------------------------------------------------------

work=$(mktemp -d "$cache/models-run.XXXXXX")
server='' passed=''

finish() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    # A server that does not go when asked must not outlive the tests.
    for _ in $(seq 100); do
      kill -0 "$server" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  if [ -z "$passed" ] && [ -f "$work/server.log" ]; then
    echo "--- the end of the server's log ---"
    tail -n 100 "$work/server.log"
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Two ports, free at the same time.
read -r port admin_port < <("$venv/bin/python" - <<'PYTHON'
import socket

sockets = [socket.socket() for _ in range(2)]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))
PYTHON
)
export PORTHOLE_TEST_URL=http://127.0.0.1:$port PORTHOLE_TEST_ADMIN_URL=http://127.0.0.1:$admin_port

(cd "$root" && exec env \
  PORTHOLE__SERVER__BIND="127.0.0.1:$port" \
  PORTHOLE__SERVER__ADMIN_BIND="127.0.0.1:$admin_port" \
  PORTHOLE__SERVER__KEEP_ALIVE_INTERVAL=1 \
  PORTHOLE__LIMITS__STORE="$work/usage.redb" \
  "$binary" --config "$models/porthole.toml" >"$work/audit.log" 2>"$work/server.log") &
server=$!

for attempt in $(seq 900); do
  if "$venv/bin/python" -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5)' \
    "$PORTHOLE_TEST_URL/ready" 2>/dev/null; then
    break
  fi
  if ! kill -0 "$server" 2>/dev/null || [ "$attempt" = 900 ]; then
    echo "the server did not become ready" >&2
    exit 1
  fi
  sleep 0.2
done

# --- The tests -------------------------------------------------------------------------------

failed=''
"$venv/bin/python" "$here/parity.py" "$PORTHOLE_TEST_URL" "$models" || failed=yes
PORTHOLE_TEST_AUDIT=$work/audit.log "$venv/bin/python" -m pytest -q -p no:cacheprovider "$here" || failed=yes

[ -z "$failed" ] || exit 1
passed=yes
