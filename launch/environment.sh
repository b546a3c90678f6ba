# Sourced by the scripts beside it: makes .venv once and installs the project with the extras named.
#   source launch/environment.sh test
# PYTHON chooses the interpreter (3.11 or newer); VENV the folder. A second run is offline.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=${VENV:-.venv}
case $VENV in /*) ;; *) VENV=$PWD/$VENV ;; esac
python=${PYTHON:-python3}
extras=${1:-tensorboard}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "affect_jax needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 2; }
# What is installed is remembered with what it was installed from: a changed setup.py installs anew.
stamp="$VENV/installed-$(echo "$extras" | cksum | cut -d' ' -f1)"
wanted=$(cksum <setup.py)
if [ ! -e "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
  "$python" -m venv "$VENV"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
  echo "$wanted" >"$stamp"
fi
export PATH="$VENV/bin:$PATH"
