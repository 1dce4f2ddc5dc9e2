#!/usr/bin/env bash
# Writes who else's work is in the binary, and under which licence, to stdout: every crate that is
# linked in, then each licence's text once, with the crates that carry it.
#
#   deploy/docker/notices.sh [cargo options such as --features cuda]
#
# Reads the sources that cargo has downloaded; run it after a build.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo tree --locked --offline -e normal --prefix none -f '{p}|{l}|{r}' "$@" |
  sed -e 's/ (\*)$//' -e 's/ (proc-macro)//' | grep -v '^porthole ' | sort -u >"$work/crates"
[ -s "$work/crates" ] || { echo "notices.sh: cargo names no crates" >&2; exit 1; }

echo "Porthole is licensed under Apache-2.0 (see LICENSE). These crates are part of the binary:"
echo
mkdir "$work/texts" "$work/owners"
sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
while IFS='|' read -r crate licence repository; do
  [ -n "$licence" ] || { echo "notices.sh: $crate names no licence" >&2; exit 1; }
  printf '%s  %s  %s\n' "$crate" "$licence" "$repository"
  folder=$(echo "$sources"/*/"${crate/ v/-}")
  [ -d "${folder%% *}" ] || { echo "notices.sh: no source of $crate in $sources" >&2; exit 1; }
  while IFS= read -r file; do
    # Line ends and indents aside, most are one text.
    sum=$(tr -d '\r' <"$file" | tr -s ' \n\t' ' ' | sha256sum | cut -c1-64)
    cp "$file" "$work/texts/$sum"
    echo "$crate" >>"$work/owners/$sum"
  done < <(find "${folder%% *}" -maxdepth 2 -type f \
    \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'copyright*' -o -iname 'unlicense*' \) \
    ! -iname '*.rs' | sort)
done <"$work/crates"

for text in "$work"/texts/*; do
  printf '\n%s\n' "--------------------------------------------------------------------------------"
  sort -u "$work/owners/$(basename "$text")" | paste -sd, | sed 's/,/, /g' | fold -s -w 100
  echo
  tr -d '\r' <"$text"
done
