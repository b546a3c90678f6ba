#!/usr/bin/env bash
# Trains the paper's four strategies and its dimensional model in sequence, then writes its tables.
#   bash launch/table7.sh --config.data.manual_dir=/path/to/AffectNet
#   bash launch/table7.sh --data=synthetic_faces [--config.duration.epochs=1 ...]
# A second run resumes interrupted models and skips finished ones. RUNS: folder of the runs; MODELS:
# a subset of the five (the dimensional model needs valence and arousal); CAP: faces per class in
# down-sampling. It scores the last checkpoint: the best one would be selected on the test data.
set -euo pipefail
source "$(dirname "$0")/environment.sh" tensorboard
data=affectnet
flags=()
for option; do
  case $option in --data=*) data=${option#--data=} ;; *) flags+=("$option") ;; esac
done
runs=${RUNS:-runs/table7-$data}
tables=() compared=()
for model in ${MODELS:-imbalanced downsampling upsampling weighted dimensional}; do
  workdir=$runs/$model
  options=(${flags[@]+"${flags[@]}"})  # bash before 4.4 treats an empty array as unset
  case $model in
    downsampling) name=down-sampling && options+=(${CAP:+--config.sampling.cap="$CAP"}) ;;
    upsampling) name=up-sampling ;;
    weighted) name=weighted-loss ;;
    *) name=$model ;;
  esac
  if [ "$workdir/evaluation/validation/report.html" -nt "$workdir/checkpoints" ]; then
    echo "$workdir: finished (see its config.json); delete the folder to train it again"
  else
    python -m affect_jax.main --config="configs/alexnet_$model.py:$data" --workdir="$workdir" \
      "${options[@]}"
    python -m affect_jax.main --mode=evaluate --workdir="$workdir" --checkpoint=last \
      --split=validation
  fi
  tables+=("$name=$workdir/evaluation/validation")
  [ "$model" = dimensional ] || compared+=("$workdir/evaluation/validation")
done
python -m affect_jax.report.tables --out="$runs/tables" "${tables[@]}"
[ ${#compared[@]} -lt 2 ] || python -m affect_jax.report "${compared[@]}" --out="$runs/comparison.html"
