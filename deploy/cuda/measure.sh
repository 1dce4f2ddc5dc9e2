#!/usr/bin/env bash
# Everything that is worth measuring on a machine with an NVIDIA GPU, in one go.
#
#   deploy/cuda/measure.sh [FOLDER]
#
# Results land in FOLDER (default measured-DATE): summary.txt, and each step's own output.
#
#   1. build       deploy/cuda/build.sh for this card (PORTHOLE_BINARY names one that is there)
#   2. parity      the demo model's answers against transformers', alone and all at once, in float32
#                  and bfloat16; the width that the self-check proved
#   3. tests       cargo test with the card (PORTHOLE_MEASURE_TESTS=0 leaves them out)
#   4. checkpoint  Qwen3-VL-8B's shapes with random bfloat16 weights (PORTHOLE_MEASURE_MODEL names a
#                  folder with real ones, or with a checkpoint made before)
#   5. bench       1, 8 and 32 streams, text and one image of a megapixel
#   6. transformers  the same on the same card
#   7. limits      the memory's measured bandwidth, and the tokens a second it allows at one stream
#
# Needs the driver (nvidia-smi), Python 3, Rust and 40 GB of disk. A step that fails is told in the
# summary and does not stop the others; the exit code is then 1.
# shellcheck disable=SC2317  # functions are called by `step`
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

out=$(realpath -m "${1:-measured-$(date +%Y%m%d-%H%M%S)}")
mkdir -p "$out"
command -v nvidia-smi >/dev/null || { echo "measure.sh: there is no nvidia-smi, so no GPU to measure" >&2; exit 2; }
cap=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
port=${PORTHOLE_MEASURE_PORT:-18080}
admin=$((port + 1))
base=http://127.0.0.1:$port
# Kept between runs: the Python environment and the checkpoint.
work=${PORTHOLE_MEASURE_CACHE:-$HOME/.cache/porthole-measure}
mkdir -p "$work"
python=$work/venv/bin/python
failed=0
server=

note() { printf '%s\n' "$*" | tee -a "$out/summary.txt"; }

# Runs a step, its output to a file of its own.
step() {
  local name=$1 started=$SECONDS
  shift
  if "$@" >"$out/$name.txt" 2>&1; then
    note "$name: done in $((SECONDS - started)) s"
  else
    note "$name: FAILED (see $name.txt)"
    failed=1
    return 1
  fi
}

stop_server() {
  [ -n "$server" ] || return 0
  kill -TERM "$server" 2>/dev/null
  wait "$server"
  server=
}
trap stop_server EXIT

# Starts the server on a model, a name and a type of weights, and waits until it is ready.
start_server() {
  local model=$1 name=$2 dtype=$3 log=$out/server-$2-$3.log waited=0
  PORTHOLE__SERVER__BIND=127.0.0.1:$port PORTHOLE__SERVER__ADMIN_BIND=127.0.0.1:$admin \
    PORTHOLE__AUTH__ENABLED=false PORTHOLE__LIMITS__STORE='' PORTHOLE__LOG__AUDIT=false \
    PORTHOLE__MODEL__ID=$model PORTHOLE__MODEL__NAME=$name PORTHOLE__MODEL__DEVICE=cuda \
    PORTHOLE__MODEL__DTYPE=$dtype "$binary" >"$log" 2>&1 &
  server=$!
  until curl -sf "$base/ready" >/dev/null; do
    if ! kill -0 "$server" 2>/dev/null || [ $((waited += 1)) -gt 900 ]; then
      note "the server does not come up with $model (see $(basename "$log"))"
      failed=1
      stop_server
      return 1
    fi
    sleep 1
  done
  note "$name in $dtype: width proven by the self-check: $(curl -sf "http://127.0.0.1:$admin/metrics" |
    sed -n 's/^porthole_engine_lane_width[^ ]* //p')"
}

environment() {
  [ -x "$python" ] && return
  python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet -r tests/models/requirements.txt
}

build() {
  deploy/cuda/build.sh "$cap" | tee "$work/binary"
}

parity() {
  start_server models/demo demo "$1" || return 1
  step "parity-$1" python3 deploy/cuda/parity.py "$base"
  grep -E '^(alone|all at once)' "$out/parity-$1.txt" | while read -r line; do note "  $line"; done
  stop_server
}

# In a shell of its own, since the build's environment is not that of a run.
tests() (
  eval "$(PORTHOLE_CUDA_STEP=toolkit deploy/cuda/build.sh "$cap")"
  env "LD_LIBRARY_PATH=$libraries" "CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/porthole-cuda-target}" \
    cargo test --release --locked --features cuda
)

bench() {
  "$binary" bench --url "$base/v1" --model big --concurrency 1,8,32 --requests 64 --max-tokens 128 \
    --json "$out/bench-$1.json" --plot "$out/bench-$1.svg" "${@:2}"
}

# Bytes a second that a copy within the card's memory moves, reads and writes counted.
bandwidth() {
  "$python" - <<'PYTHON'
import torch, time
source = torch.empty(2 << 30, dtype=torch.uint8, device="cuda")
target = torch.empty_like(source)
target.copy_(source)
torch.cuda.synchronize()
started = time.perf_counter()
for _ in range(20):
    target.copy_(source)
torch.cuda.synchronize()
print(int(20 * 2 * source.numel() / (time.perf_counter() - started)))
PYTHON
}

limits() {
  local weights speed
  # An answer's token reads the text model and the head once; the vision tower only with an image.
  weights=$("$python" - "$model" <<'PYTHON'
import json, struct, sys
from pathlib import Path
total = 0
for file in Path(sys.argv[1]).glob("*.safetensors"):
    with file.open("rb") as f:
        head = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    for name, tensor in head.items():
        if name != "__metadata__" and "visual" not in name and "embed_tokens" not in name:
            total += tensor["data_offsets"][1] - tensor["data_offsets"][0]
print(total)
PYTHON
  ) && speed=$(bandwidth) || return 1
  awk -v w="$weights" -v s="$speed" 'BEGIN {
    printf "bandwidth %.0f GB/s, weights read for each token %.2f GB: at most %.0f tokens/s at one stream\n", s / 1e9, w / 1e9, s / w }'
}

nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap,power.limit --format=csv | tee -a "$out/summary.txt"
note "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"

if [ -n "${PORTHOLE_BINARY:-}" ]; then
  binary=$PORTHOLE_BINARY
else
  step build build || exit 1
  binary=$(tail -n 1 "$work/binary")
fi
# The libraries of CUDA, where the machine has none of its own; never the stub of the driver.
libraries=${PORTHOLE_CUDA_HOME:-$HOME/.cache/porthole-cuda}/toolkit/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH=$libraries
step python environment

parity f32
parity bf16
[ "${PORTHOLE_MEASURE_TESTS:-1}" = 0 ] || step tests tests

model=${PORTHOLE_MEASURE_MODEL:-$work/qwen3-vl-8b-random}
if [ ! -f "$model/config.json" ]; then
  step checkpoint "$python" deploy/cuda/make_checkpoint.py "$model" || { rm -rf "$model"; exit 1; }
fi
if "$binary" bench --help >/dev/null 2>&1; then
  if start_server "$model" big bf16; then
    step bench-text bench text
    step bench-image bench image --images 1 --image-size 1024x1024
    stop_server
  fi
else
  note "bench: this binary has no bench command"
  failed=1
fi
step transformers "$python" deploy/cuda/transformers_speed.py "$model" --json "$out/transformers.json"
step limits limits && note "  $(cat "$out/limits.txt")"
note "results are in $out"
exit "$failed"
