#!/usr/bin/env bash
# The tests, in an environment of their own. Arguments go to pytest: launch/test.sh tests/models -x
set -euo pipefail
source "$(dirname "$0")/environment.sh" test,tensorboard
exec python -m pytest -n "${TEST_PROCESSES:-2}" --dist loadfile "$@"
