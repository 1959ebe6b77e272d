#!/bin/sh
# Install qiskit_qff into ./.venv. Arguments are extras: `./install.sh test` also installs what the tests need.
#
# All it does is: python3 -m venv .venv && .venv/bin/pip install --editable ".[extras]". Editable, because the kernels are
# compiled once and kept beside their sources: so another installation compiles nothing anew. Debian and Ubuntu split the
# venv module off from Python; where it is missing, the package python3-venv is installed with apt-get first (as root, or
# by sudo).
set -eu
cd "$(dirname "$0")"
python="${PYTHON:-python3}"

fail() { echo "install.sh: $*" >&2; exit 2; }

command -v "$python" >/dev/null || fail "no $python found. Install Python 3.11 or newer, or name it: PYTHON=/path/to/python ./install.sh"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old. Python 3.11 or newer is needed; name it: PYTHON=/path/to/python ./install.sh"

if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    command -v apt-get >/dev/null || fail "this Python lacks the venv module. Install it, for example the package python$version-venv."
    sudo=""
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "this Python lacks the venv module. As root: apt-get install python$version-venv"
        sudo="sudo"
    fi
    echo "install.sh: this Python lacks the venv module; installing Debian's package python$version-venv" >&2
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq --no-install-recommends "python$version-venv" >/dev/null
fi

[ -x .venv/bin/pip ] || "$python" -m venv .venv
extras="$(echo "$*" | tr ' ' ',')"
.venv/bin/pip install --quiet --disable-pip-version-check --editable ".${extras:+[$extras]}"
echo "installed: $PWD/.venv/bin/qff"
