#!/usr/bin/env bash
# Fuzzes every target for a while and stops at the first finding.
#
#   fuzz/run.sh [SECONDS] [TARGET ...]      10 minutes each, all of them, where nothing is said
#
# Needs a nightly compiler and a C++ compiler. What is found worth keeping (new coverage) goes to a
# folder outside the checkout; a finding is written to fuzz/artifacts, and its input belongs into
# fuzz/seeds with a test.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-600}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(request data_url image token keys_file)
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
export CARGO_TARGET_DIR=${FUZZ_TARGET_DIR:-$HOME/.cache/porthole-fuzz}
corpus=${FUZZ_CORPUS:-$HOME/.cache/porthole-fuzz-corpus}
for target in "${targets[@]}"; do
  mkdir -p "$corpus/$target" "seeds/$target"
  seeds=("seeds/$target")
  [ "$target" = image ] && seeds+=(../models/demo/images)
  echo "== $target: $seconds s"
  # A slow input is a finding too: no image may take a second, no text a tenth of that.
  cargo +nightly fuzz run --release "$target" "$corpus/$target" "${seeds[@]}" -- \
    -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1
done
