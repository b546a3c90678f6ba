#!/usr/bin/env bash
# Trains and scores a model in minutes without downloading data: renders faces, trains AlexNet with
# the weighted loss on them and scores the best checkpoint. A second run resumes or does nothing.
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
