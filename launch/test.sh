#!/usr/bin/env bash
# Runs the tests in a virtual environment: the default suite takes minutes on two cores.
#   bash launch/test.sh                        # without slow tests, faults, browsers, benchmarks, docs
#   bash launch/test.sh --all                  # every test, as CI does
#   bash launch/test.sh tests/models -x        # other arguments go to pytest
set -euo pipefail
source "$(dirname "$0")/environment.sh" test,tensorboard
selection=(-m "not (slow or fault or browser or beam or bench or docs)")
if [ "${1:-}" = --all ]; then
  selection=()
  shift
fi
exec python -m pytest -n "${TEST_PROCESSES:-2}" --dist loadfile "${selection[@]}" "$@"
