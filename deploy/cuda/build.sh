#!/usr/bin/env bash
# Builds Porthole for NVIDIA GPUs on a machine that needs neither a GPU, nor a driver, nor CUDA
# installed: NVIDIA's compiler comes from wheels on PyPI.
#
#   deploy/cuda/build.sh [CAP]
#
# CAP is the card's compute capability without its dot: 80 (A100), 86 (A10, RTX 30), 89 (L4, L40S,
# RTX 40), 90 (H100, H200; taken where nothing is said), 100 (B200), 120 (RTX 50).
#
# Environment:
#   PORTHOLE_CUDA_HOME   where the toolkit is kept (default ~/.cache/porthole-cuda)
#   CARGO_TARGET_DIR     where the build goes (default ~/.cache/porthole-cuda-target)
#   PORTHOLE_FEATURES    cargo features (default "cuda")
#   PORTHOLE_CUDA_STEP   "toolkit" stops after the toolkit and prints the environment to build with
#
# Prints the binary's path as the last line on stdout.
set -euo pipefail
cd "$(dirname "$0")/../.."

cap=${1:-90}
[[ $cap =~ ^[0-9]{2,3}$ ]] || { echo "build.sh: '$cap' is no compute capability such as 80, 89 or 90" >&2; exit 2; }
home=${PORTHOLE_CUDA_HOME:-$HOME/.cache/porthole-cuda}
cuda=$home/toolkit
features=${PORTHOLE_FEATURES:-cuda}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/porthole-cuda-target}

# One release of CUDA in all its parts. The binary runs with any driver for CUDA 13 (r580 or later).
wheels=(
  nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-nvrtc==13.0.88
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
  nvidia-curand==10.4.0.35 nvidia-cublas==13.0.2.14
)

# Unpacks the wheels to $1 and gives the libraries the names that a linker looks for.
unpack() {
  python3 -m venv "$1/venv"
  "$1/venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-deps \
    --only-binary :all: --target "$1/wheels" "${wheels[@]}"
  mv "$1/wheels/nvidia/cu13" "$1/new"
  rm -rf "$1/venv" "$1/wheels"
  local name library
  for name in cudart cublas cublasLt curand nvrtc; do
    library=$(cd "$1/new/lib" && echo "lib$name.so."*)
    ln -s "${library%% *}" "$1/new/lib/lib$name.so"
  done
  ln -s lib "$1/new/lib64"
  chmod +x "$1"/new/bin/* "$1/new/nvvm/bin/cicc"
}

# The driver's library is part of the driver, so it is only on machines with a card. To link, a
# library of its name with its functions' names is enough; at run time the real one is loaded.
stub_driver() {
  mkdir -p "$1/lib/stubs"
  {
    grep -ohE '\bcu[A-Z][A-Za-z0-9]*(_v[0-9]+)?\b' "$1/include/cuda.h" | sort -u |
      sed 's/.*/void &(void) {}/'
  } >"$1/lib/stubs/cuda.c"
  "${CC:-cc}" -shared -fPIC -w -Wl,-soname,libcuda.so.1 -o "$1/lib/stubs/libcuda.so.1" "$1/lib/stubs/cuda.c"
  ln -s libcuda.so.1 "$1/lib/stubs/libcuda.so"
}

# Built beside and moved into place at once, so that a broken download is never taken for a toolkit.
install_toolkit() {
  mkdir -p "$home"
  local work
  work=$(mktemp -d "$home/new.XXXXXX")
  # shellcheck disable=SC2064  # the folder of this call, not of whatever is set at the end
  trap "rm -rf '$work'" EXIT
  unpack "$work"
  stub_driver "$work/new"
  rm -rf "$cuda"
  mv -T "$work/new" "$cuda"
  rm -rf "$work"
  trap - EXIT
  printf '%s\n' "${wheels[@]}" >"$cuda/wheels.txt"
}

if [ "$(printf '%s\n' "${wheels[@]}")" != "$(cat "$cuda/wheels.txt" 2>/dev/null)" ]; then
  echo "build.sh: unpacking NVIDIA's compiler into $cuda" >&2
  install_toolkit
fi

# cudarc, candle and cudaforge each look at another of these.
export CUDA_HOME=$cuda CUDA_PATH=$cuda CUDA_ROOT=$cuda CUDA_TOOLKIT_ROOT_DIR=$cuda
export NVCC=$cuda/bin/nvcc CUDA_COMPUTE_CAP=$cap
export PATH=$cuda/bin:$PATH
export LIBRARY_PATH=$cuda/lib:$cuda/lib/stubs${LIBRARY_PATH:+:$LIBRARY_PATH}
# Build scripts and procedural macros of crates with CUDA in them are themselves linked with it.
export LD_LIBRARY_PATH=$cuda/lib:$cuda/lib/stubs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

if [ "${PORTHOLE_CUDA_STEP:-}" = toolkit ]; then
  for name in CUDA_HOME CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR NVCC CUDA_COMPUTE_CAP LIBRARY_PATH LD_LIBRARY_PATH; do
    printf 'export %s=%q\n' "$name" "${!name}"
  done
  exit
fi

cargo build --release --locked --features "$features" --bin porthole
mkdir -p "$CARGO_TARGET_DIR/cuda"
cp "$CARGO_TARGET_DIR/release/porthole" "$CARGO_TARGET_DIR/cuda/porthole-sm$cap"
ls -l "$CARGO_TARGET_DIR/cuda/porthole-sm$cap" >&2
echo "$CARGO_TARGET_DIR/cuda/porthole-sm$cap"
