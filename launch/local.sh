#!/usr/bin/env bash
# Trains on all devices of this machine, in one process.
#   bash launch/local.sh --config=configs/alexnet_weighted.py --workdir=runs/weighted \
#     --config.data.manual_dir=/path/to/AffectNet
# Set: JAX_PLATFORMS=cpu, cuda or tpu to choose among several kinds of device; CUDA_VISIBLE_DEVICES
#   to use some of the GPUs; EXTRA=cuda or EXTRA=tpu once, to install JAX for them.
# batch_size is that of the whole run: a multiple of the number of devices.
# Data: prepared once below config.data.data_dir; the release at manual_dir is not needed after.
# To resume: the same command. It goes on from the newest whole checkpoint in the workdir.
# To stop: Ctrl-C or SIGTERM finish the step and save (exit 130 or 143); twice leaves at once.
set -euo pipefail
source "$(dirname "$0")/environment.sh" "${EXTRA:-tensorboard}"
exec python -m affect_jax.main "$@"
