#!/usr/bin/env bash
# Trains the paper's four strategies and its dimensional model in sequence, then writes its tables.
#   bash launch/table7.sh --config.data.manual_dir=/path/to/AffectNet SEEDS="0 1 2"
#   bash launch/table7.sh --data=synthetic_faces [--config.duration.epochs=1 ...]
# A second run resumes interrupted models and skips finished ones. SEEDS: each model is a study of
# these seeds (default: 0), tables have means and spread. RUNS: folder of the runs; MODELS: a subset of
# the five (the dimensional model needs valence and arousal); CAP: faces per class in down-sampling.
# It scores the last checkpoint: the best one would be selected on the test data.
set -euo pipefail
source "$(dirname "$0")/environment.sh" tensorboard
data=affectnet
flags=()
for option; do
  case $option in
    --data=*) data=${option#--data=} ;;
    SEEDS=*) SEEDS=${option#SEEDS=} ;;
    *) flags+=("$option") ;;
  esac
done
seeds=${SEEDS:-0}
runs=${RUNS:-runs/table7-$data}
tables=() compared=()
for model in ${MODELS:-imbalanced downsampling upsampling weighted dimensional}; do
  options=(${flags[@]+"${flags[@]}"})  # bash before 4.4 treats an empty array as unset
  case $model in
    downsampling) name=down-sampling && options+=(${CAP:+--config.sampling.cap="$CAP"}) ;;
    upsampling) name=up-sampling ;;
    weighted) name=weighted-loss ;;
    *) name=$model ;;
  esac
  python -m affect_jax.study --config="configs/alexnet_$model.py:$data" --workdir="$runs/$model" \
    --seeds="${seeds// /,}" ${options[@]+"${options[@]}"}
  tables+=("$name=$runs/$model")
  [ "$model" = dimensional ] || compared+=("$runs/$model")
done
python -m affect_jax.report.tables --out="$runs/tables" "${tables[@]}"
[ ${#compared[@]} -lt 2 ] || python -m affect_jax.report "${compared[@]}" --out="$runs/comparison.html"
