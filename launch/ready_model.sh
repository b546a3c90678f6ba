#!/usr/bin/env bash
# Trains the model in the package (affect_jax/ready) and writes its card: an hour of processor time.
#   bash launch/ready_model.sh DATA [--config.seed=1 ...]
# DATA: photographs in the layout of AffectNet's first release, see docs/ready_model.md.
set -euo pipefail
data=$(realpath "$1")
source "$(dirname "$0")/environment.sh" tensorboard
workdir=${WORKDIR:-runs/ready}
python -m affect_jax.main --config=configs/ready.py --workdir="$workdir" \
  --config.data.manual_dir="$data" "${@:2}"
python -m affect_jax.main --mode=evaluate --workdir="$workdir" --checkpoint=last
python -m affect_jax.export --workdir="$workdir" --step=last --format=safetensors \
  --half --calibrate --out=affect_jax/ready
