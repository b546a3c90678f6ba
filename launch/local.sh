#!/usr/bin/env bash
# Trains on all devices of this machine, in one process.
#   bash launch/local.sh --config=configs/alexnet_weighted.py --workdir=runs/weighted \
#     --config.data.manual_dir=/path/to/AffectNet
# Set: JAX_PLATFORMS=cpu, cuda or tpu to select the type of device; CUDA_VISIBLE_DEVICES to use a
#   subset of the GPUs; EXTRA=cuda or EXTRA=tpu once, to install JAX for them.
# batch_size is the global batch size: a multiple of the number of devices.
# Data: prepared once in config.data.data_dir; afterwards the release at manual_dir is not needed.
# To resume: rerun the same command. It resumes from the newest intact checkpoint in the workdir.
# To stop: Ctrl-C or SIGTERM finishes the step and saves (exit 130 or 143); a second signal exits at
#   once without saving.
set -euo pipefail
source "$(dirname "$0")/environment.sh" "${EXTRA:-tensorboard}"
exec python -m affect_jax.main "$@"
