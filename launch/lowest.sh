#!/usr/bin/env bash
# Runs the tests with the oldest library versions that setup.py allows, in a separate environment.
#   bash launch/lowest.sh [options of pytest]
set -euo pipefail
export VENV=${VENV:-.venv-lowest}
source "$(dirname "$0")/environment.sh" test
lowest=$(python - <<'END'
import importlib.metadata, re

installed = {re.sub(r"[-_.]+", "-", d.name).lower() for d in importlib.metadata.distributions()}
installed -= {"apache-beam"}  # requires newer libraries than the package does
for name, bound in re.findall(r'"([\w.-]+)>=([\d.]+)[";]', open("setup.py").read()):
    if re.sub(r"[-_.]+", "-", name).lower() in installed:
        print(f"{name}=={bound}")
END
)
# shellcheck disable=SC2086  # one word per package
python -m pip install --quiet --disable-pip-version-check $lowest
exec python -W ignore -m pytest -n auto --dist loadfile -p no:cacheprovider -W ignore "$@"
