#!/usr/bin/env bash
# The paper's four strategies and its dimensional model, one after another; then its tables.
#   bash launch/table7.sh --config.data.manual_dir=/path/to/AffectNet
#   bash launch/table7.sh --data=synthetic_faces [--config.duration.epochs=1 ...]
# What was cut short goes on, what is done is not done again. RUNS: the folder; MODELS: some of the
# five (data without valence and arousal have no dimensional model); CAP: faces of a class that
# down-sampling keeps. The last checkpoint is scored: choosing the best would be choosing on the test.
set -euo pipefail
source "$(dirname "$0")/environment.sh" tensorboard
data=affectnet
given=()
for option; do
  case $option in --data=*) data=${option#--data=} ;; *) given+=("$option") ;; esac
done
runs=${RUNS:-runs/table7-$data}
tables=() compared=()
for model in ${MODELS:-imbalanced downsampling upsampling weighted dimensional}; do
  workdir=$runs/$model
  options=(${given[@]+"${given[@]}"})  # bash before 4.4 takes an empty array for unset
  case $model in
    downsampling) name=down-sampling && options+=(${CAP:+--config.sampling.cap="$CAP"}) ;;
    upsampling) name=up-sampling ;;
    weighted) name=weighted-loss ;;
    *) name=$model ;;
  esac
  if [ "$workdir/evaluation/validation/report.html" -nt "$workdir/checkpoints" ]; then
    echo "$workdir: done, as its config.json says; delete the folder to train it otherwise"
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
