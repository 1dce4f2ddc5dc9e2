#!/usr/bin/env bash
# Builds the Dockerfile and runs what comes out, on a machine without a Docker engine: Debian's
# buildah, base images from debootstrap. Run as root, on Debian with buildah, debootstrap, curl, jq
# and Rust installed.
#
#   deploy/docker/prove.sh
#
# The container is run with a kernel's own means (unshare, chroot, setpriv) as an engine would with
# `--user 10001 --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges`: process 1
# of a PID namespace of its own. What is proven: it starts, its health check answers, strangers are
# refused, a chat is answered, nothing but the volumes is written, SIGTERM ends it with exit code 0.
#
# Environment:
#   PORTHOLE_PROVE        where base images and results are kept (default ~/.cache/porthole-prove)
#   PORTHOLE_PROVE_BUILD  a folder that is kept for cargo's output between runs; without it
#                         everything is compiled anew, as it would be elsewhere
#   PORTHOLE_PROVE_CARGO  cargo's folder in the builder (default /usr/local/cargo, as in rust:1.95)
#   PORTHOLE_PROVE_REGISTRY  a folder with the sources of crates (default one below PORTHOLE_PROVE)
#   PORTHOLE_PROVE_MIRROR Debian's mirror (default http://deb.debian.org/debian)
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "prove.sh: run it as root" >&2; exit 2; }
for tool in buildah debootstrap curl ip jq nsenter unshare cargo; do
  command -v "$tool" >/dev/null || { echo "prove.sh: $tool is not installed" >&2; exit 2; }
done

export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
home=${PORTHOLE_PROVE:-$HOME/.cache/porthole-prove}
mirror=${PORTHOLE_PROVE_MIRROR:-http://deb.debian.org/debian}
debian=localhost/debian:bookworm-slim
rust=localhost/rust:bookworm
cargo_home=${PORTHOLE_PROVE_CARGO:-/usr/local/cargo}
image=localhost/porthole:prove
mkdir -p "$home"
say() { printf '\n== %s\n' "$*"; }

has() { buildah images -q "$1" >/dev/null 2>&1; }

# An image of the folder $1 with the name $2; further words are options of `buildah config`.
commit_tree() {
  local folder=$1 name=$2 container
  shift 2
  container=$(buildah from scratch)
  buildah add -q "$container" "$folder" / >/dev/null
  buildah config --cmd bash "$@" "$container"
  buildah commit -q --rm "$container" "$name" >/dev/null
}

base_images() {
  if ! has "$debian"; then
    say "a base image from debootstrap"
    if [ ! -d "$home/root" ]; then
      rm -rf "$home/root.new"
      debootstrap --variant=minbase bookworm "$home/root.new" "$mirror" >"$home/debootstrap.log"
      mv "$home/root.new" "$home/root"
    fi
    rm -rf "$home"/root/var/cache/apt/archives/*.deb "$home"/root/var/lib/apt/lists/*
    commit_tree "$home/root" "$debian"
  fi
  if ! has "$rust"; then
    [ -d "$home/root" ] || { echo "prove.sh: remove the image $debian first" >&2; exit 1; }
    say "an image with Rust, as rust:1.95-bookworm has it"
    chroot "$home/root" apt-get -qq update
    chroot "$home/root" apt-get -qq install -y --no-install-recommends build-essential ca-certificates git >/dev/null
    # This machine may reach the registries through certificates of its own.
    cp /etc/ssl/certs/ca-certificates.crt "$home/root/etc/ssl/certs/ca-certificates.crt"
    mkdir -p "$home/root/usr/local/rustup/toolchains" "$home/root$cargo_home/bin"
    cp -a "$(rustc --print sysroot)" "$home/root/usr/local/rustup/toolchains/rust"
    rm -rf "$home/root/usr/local/rustup/toolchains/rust/share/doc"
    ln -sf /usr/local/rustup/toolchains/rust/bin/{cargo,rustc} "$home/root$cargo_home/bin/"
    commit_tree "$home/root" "$rust" --env "CARGO_HOME=$cargo_home" \
      --env "PATH=$cargo_home/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    rm -rf "$home/root"
  fi
}

build() {
  say "the image"
  local options=(--format docker --build-arg "RUST_IMAGE=$rust" --build-arg "RUNTIME_IMAGE=$debian"
    --build-arg "CUDA_BUILD_IMAGE=$debian" --build-arg "CUDA_RUNTIME_IMAGE=$debian" --target cpu -t "$image")
  # Sources of crates, kept between runs; where they come from is this machine's matter.
  mkdir -p "$home/registry"
  options+=(--volume "${PORTHOLE_PROVE_REGISTRY:-$home/registry}:$cargo_home/registry")
  if [ -n "${PORTHOLE_PROVE_BUILD:-}" ]; then
    options+=(--volume "$PORTHOLE_PROVE_BUILD:/build/target")
  fi
  buildah bud "${options[@]}" . 2>&1 | tee "$home/build.log"
}

# What an engine would do with the image's configuration.
read_configuration() {
  container=$(buildah from "$image")
  root=$(buildah mount "$container")
  local config
  config=$(buildah inspect "$container" | jq -c .Docker.config)
  mapfile -t environment < <(jq -r '.Env[]' <<<"$config")
  mapfile -t entrypoint < <(jq -r '.Entrypoint[]' <<<"$config")
  mapfile -t health < <(jq -r '.Healthcheck.Test[1:][]' <<<"$config")
  user=$(jq -r .User <<<"$config")
  folder=$(jq -r .WorkingDir <<<"$config")
  if [ "$user ${health[*]}" != "10001:10001 porthole healthcheck" ]; then
    echo "the image's configuration is not what it should be: $config" >&2
    exit 1
  fi
  volumes=$(mktemp -d)
  mkdir "$volumes/state" "$volumes/models"
  chown "$user" "$volumes"/*
}

# Runs words in the container: as process 1, read-only, without any privilege.
# shellcheck disable=SC2016  # the inner shell expands them
contained() {
  unshare --mount --pid --fork --kill-child "${network[@]}" bash -c '
    set -e
    root=$1 volumes=$2 user=$3 folder=$4
    shift 4
    mount --bind "$root" "$root"
    mount -o remount,bind,ro "$root"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    mount -t proc proc "$root/proc"
    mount --bind "$volumes/state" "$root/var/lib/porthole"
    mount --bind "$volumes/models" "$root/models"
    mount --bind /dev "$root/dev"
    exec chroot "$root" setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups --no-new-privs \
      --inh-caps=-all --bounding-set=-all env -i --chdir="$folder" "$@"
  ' - "$root" "$volumes" "$user" "$folder" "${environment[@]}" "$@"
}

fail() {
  echo "FAILED: $*" >&2
  tail -n 20 "$home/server.log" >&2
  exit 1
}

inside() { nsenter --target "$server" --net -- "$@"; }

start() {
  # A network of its own, with nothing but loopback: an engine would forward ports into it.
  network=(--net)
  contained bash -c 'exec "$@"' - "${entrypoint[@]}" >"$home/audit.log" 2>"$home/server.log" &
  runner=$!
  network=()
  local tries=0
  until server=$(pgrep -P "$runner") && [ "$(tr '\0' ' ' <"/proc/$server/cmdline")" = "porthole " ]; do
    [ $((tries += 1)) -lt 300 ] || fail "it does not start"
    sleep 0.1
  done
  inside ip link set lo up
  tries=0
  until inside curl -sf -o "$home/ready.json" http://127.0.0.1:8080/ready; do
    kill -0 "$server" 2>/dev/null || fail "it has ended"
    [ $((tries += 1)) -lt 600 ] || fail "it is not ready"
    sleep 0.5
  done
}

ask() { # key
  inside curl -s -w '\n%{http_code}\n' http://127.0.0.1:8080/v1/chat/completions -H "Authorization: Bearer $1" \
    -H 'Content-Type: application/json' -d @"$home/question.json"
}

prove() {
  say "run: process 1, user 10001, read-only, no capabilities"
  printf '{"model":"demo","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,%s"}},{"type":"text","text":"What shape is this?"}]}]}' \
    "$(base64 -w0 models/demo/images/05-shape-en.png)" >"$home/question.json"
  network=()
  local key answer
  key=$(contained "${entrypoint[@]}" key create prove 2>/dev/null) || fail "no key is made"
  start
  grep -E '^(Uid|Gid|NSpid|CapEff|CapBnd|NoNewPrivs):' "/proc/$server/status" | tee "$home/status.txt"
  tr '\t' ' ' <"$home/status.txt" | grep -qx 'Uid: 10001 10001 10001 10001' || fail "another user"
  grep -qE '^NSpid:.*\s1$' "$home/status.txt" || fail "it is not process 1"
  grep -qE '^CapBnd:\s0+$' "$home/status.txt" || fail "it has capabilities"
  awk '$5 == "/" { print $6 }' "/proc/$server/mountinfo" | grep -q '^ro' || fail "its root can be written"
  nsenter --target "$server" --net --mount --root --wd="/proc/$server/root$folder" -- \
    env -i "${environment[@]}" setpriv --reuid 10001 --regid 10001 --clear-groups "${health[@]}" || fail "the health check"
  echo "health check: exit code 0"
  answer=$(ask wrong)
  [ "${answer##*$'\n'}" = 401 ] || fail "a stranger is answered: $answer"
  echo "a stranger: 401"
  answer=$(ask "$key")
  [ "${answer##*$'\n'}" = 200 ] || fail "no answer: $answer"
  echo "a chat: $(head -n 1 <<<"$answer" | jq -r '.choices[0].message.content')"
  inside curl -sf http://127.0.0.1:9090/metrics | grep -q '^porthole_http_requests_total' || fail "no metrics"

  say "SIGTERM"
  local code=0 started=$SECONDS
  kill -TERM "$server"
  wait "$runner" || code=$?
  echo "exit code $code after $((SECONDS - started)) s"
  [ "$code" = 0 ] || fail "exit code $code"
  echo "written: $(cd "$volumes" && find . -type f | sort | tr '\n' ' ')"
}

cleanup() {
  [ -z "${runner:-}" ] || kill -KILL "$runner" 2>/dev/null || true
  if [ -n "${container:-}" ]; then
    buildah umount "$container" >/dev/null
    buildah rm "$container" >/dev/null
  fi
  [ -z "${volumes:-}" ] || rm -rf "$volumes"
}

trap cleanup EXIT
base_images
build
read_configuration
say "size"
du -sh --apparent-size "$root" "$root/usr/local/bin/porthole" "$root/usr/share/porthole" "$root/usr/share/licenses"
prove
say "proven"
