#!/usr/bin/env bash
# Makes what compose.yaml needs and no repository may hold: passwords, the secrets of keys and
# tokens, and a certificate for localhost that lives a year. What is there already stays.
#
#   deploy/compose/init.sh
#
# Needs openssl. Put your own certificate in secrets/tls.crt and secrets/tls.key where there is one.
set -euo pipefail
cd "$(dirname "$0")"

# The folder keeps other users of this machine out; the files can be read by the containers, whose
# users have other numbers.
mkdir -p secrets
chmod 700 secrets
cd secrets
random() { openssl rand -hex 32; }
# Written beside and moved, so that no half of one is left.
keep() {
  cat >"$1.new"
  chmod 444 "$1.new"
  mv "$1.new" "$1"
}

if [ ! -f redis.conf ]; then
  keep redis.conf <<CONF
requirepass $(random)
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
CONF
fi
if [ ! -f config.toml ]; then
  keep config.toml <<CONF
# What this deployment sets; config.toml at the top of the repository lists every key.

[auth]
key_pepper = "$(random)"
token_secret = "$(random)"

[limits]
redis_url = "redis://:$(sed -n 's/^requirepass //p' redis.conf)@redis:6379"
default = { requests_per_minute = 600, concurrent_requests = 64 }
CONF
fi
[ -f grafana_password ] || random | tr -d '\n' | keep grafana_password
if [ ! -f tls.crt ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout made.key -out made.crt 2>/dev/null
  keep tls.key <made.key
  keep tls.crt <made.crt
  rm -f made.key made.crt
fi
echo "deploy/compose/secrets is complete."
