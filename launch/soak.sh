#!/usr/bin/env bash
# Injects the faults that the project must survive and writes the table of reliability: kills
# training KILLS times (default 50), fills disks, flips bits, stops worker processes. It takes 15
# minutes on two cores and changes nothing outside a temporary folder.
#   bash launch/soak.sh [KILLS] [options of pytest]
set -euo pipefail
source "$(dirname "$0")/environment.sh" test,tensorboard
export AFFECT_JAX_SOAK=${1:-50}
shift || true
[ $# -gt 0 ] || export AFFECT_JAX_RELIABILITY=docs/reliability.md  # only complete runs
exec python -m pytest tests -m "fault or bad_input" -n 0 -p no:cacheprovider "$@"
