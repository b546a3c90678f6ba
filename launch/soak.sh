#!/usr/bin/env bash
# Does the damage that the project promises to survive, and writes the README's table `Reliability`:
# kills training again and again (50 times unless said otherwise), fills disks, flips bits, stops
# workers. A quarter of an hour on two cores; nothing outside a temporary folder is touched.
#   bash launch/soak.sh [KILLS] [options of pytest]
set -euo pipefail
source "$(dirname "$0")/environment.sh" test,tensorboard
export AFFECT_JAX_SOAK=${1:-50}
shift || true
[ $# -gt 0 ] || export AFFECT_JAX_RELIABILITY=README.md  # what is left out is not in the table
exec python -m pytest tests -m "fault or bad_input" -n 0 -p no:cacheprovider "$@"
