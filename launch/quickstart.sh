#!/usr/bin/env bash
# From nothing to a scored model in minutes, without any download of data: renders faces, trains
# AlexNet with the weighted loss on them, scores the best checkpoint. Again: goes on or says done.
#   bash launch/quickstart.sh [--config.duration.epochs=1 ...]
set -euo pipefail
source "$(dirname "$0")/environment.sh" tensorboard
workdir=${WORKDIR:-runs/quickstart}
python -m affect_jax.main --config=configs/alexnet_weighted.py:synthetic_faces \
  --workdir="$workdir" "$@"
python -m affect_jax.main --mode=evaluate --workdir="$workdir" --checkpoint=best
echo
echo "Curves:  $VENV/bin/tensorboard --logdir runs/"
echo "Scores:  $workdir/evaluation/validation/scores.json"
echo "Report:  $workdir/evaluation/validation/report.html"
