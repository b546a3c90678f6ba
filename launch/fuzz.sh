#!/usr/bin/env bash
# Damages files and flags at random for MINUTES (default 10), each round with a new seed. It fails if
# a command ends with an unexpected error, crashes or hangs; pytest prints the case.
#   bash launch/fuzz.sh [MINUTES] [options of pytest]
set -euo pipefail
source "$(dirname "$0")/environment.sh" test,tensorboard
end=$((SECONDS + 60 * ${1:-10}))
shift || true
while [ "$SECONDS" -lt "$end" ]; do
  seed=$RANDOM$RANDOM
  echo "seed $seed"
  timeout 1200 python -m pytest tests/fuzz -n 0 -x -p no:cacheprovider --hypothesis-profile=fuzz \
    --hypothesis-seed="$seed" "$@"
done
