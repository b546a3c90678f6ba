#!/usr/bin/env bash
# Trains on a TPU pod of Google Cloud, one process per host; requests the pod if it does not exist.
#   bash launch/tpu_pod.sh --config=configs/alexnet_weighted.py --workdir=/mnt/shared/runs/weighted
# Set: TPU (name), ZONE, TYPE (v5litepod-16, ...), VERSION of the runtime; gcloud's default project
#   is used. DRY_RUN=1 prints the commands instead of running them.
# Data: workdir and config.data.data_dir on a file system that all hosts mount (Filestore); or the
#   prepared folder copied to each host: the processes compare them before the first step.
# JAX detects the hosts of a pod (AFFECT_JAX_CLUSTER=auto). Process 0 writes the workdir.
# To resume: rerun the same command; a preempted pod is requested again.
set -euo pipefail
tpu=${TPU:-affect-jax} zone=${ZONE:-us-west4-a} type=${TYPE:-v5litepod-16}
run() { if [ -n "${DRY_RUN:-}" ]; then printf '%q ' "$@" && echo; else "$@"; fi; }
cloud() { run gcloud compute tpus "$@" --zone="$zone"; }
if [ -n "${DRY_RUN:-}" ] || ! cloud tpu-vm describe "$tpu" >/dev/null 2>&1; then
  cloud queued-resources create "$tpu" --node-id="$tpu" --accelerator-type="$type" \
    --runtime-version="${VERSION:-v2-alpha-tpuv5-lite}" --spot
  until [ -n "${DRY_RUN:-}" ] || cloud tpu-vm describe "$tpu" >/dev/null 2>&1; do sleep 60; done
fi
cloud tpu-vm scp --worker=all --recurse affect_jax configs launch setup.py "$tpu":affect_jax/
command="cd affect_jax && EXTRA=tpu AFFECT_JAX_CLUSTER=auto bash launch/local.sh"
cloud tpu-vm ssh "$tpu" --worker=all --command="$command $(printf '%q ' "$@")"
