#!/usr/bin/env bash
# Runs the tests in a virtual environment. Arguments go to pytest: launch/test.sh tests/models -x
set -euo pipefail
source "$(dirname "$0")/environment.sh" test,tensorboard
exec python -m pytest -n "${TEST_PROCESSES:-2}" --dist loadfile "$@"
