# Sourced by the other scripts: creates .venv once and installs the project with the given extras.
#   source launch/environment.sh test
# PYTHON sets the interpreter (3.11 or newer), VENV the folder. Later runs need no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=${VENV:-.venv}
case $VENV in /*) ;; *) VENV=$PWD/$VENV ;; esac
python=${PYTHON:-python3}
extras=${1:?name the extras to install, such as tensorboard}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "affect_jax needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 2; }
# A stamp file holds the checksum of setup.py, so that a changed setup.py is installed again.
stamp="$VENV/installed-$(echo "$extras" | cksum | cut -d' ' -f1)"
checksum=$(cksum <setup.py)
if [ ! -e "$stamp" ] || [ "$(cat "$stamp")" != "$checksum" ]; then
  "$python" -m venv "$VENV"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
  echo "$checksum" >"$stamp"
fi
export PATH="$VENV/bin:$PATH"
# Huge pages for large arrays: a training step on a CPU is up to a fifth faster (docs/hosts.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
