#!/usr/bin/env bash
# Trains in N processes on this machine: a test of multi-host training, or one process per GPU.
#   bash launch/multiprocess.sh N --config=... --workdir=...
# Set: PORT, a free port (default 12355); DEVICES_PER_PROCESS=n to assign GPUs i*n to i*n+n-1 to
#   process i (default: each process uses all devices, which is correct for CPUs only).
# Data: all processes read the same config.data.data_dir; the first one to start prepares it. Each
#   process loads its slice of the global batch, so N processes use the same data as one process.
# Only process 0 writes the workdir: checkpoints, metrics, TensorBoard.
# To resume: rerun the same command, with the same or another N. If a process dies, the others and
#   this script exit within a minute with a nonzero exit code.
# To stop: Ctrl-C or SIGTERM to this script: all finish the same step, save and exit with 143.
set -euo pipefail
source "$(dirname "$0")/environment.sh" "${EXTRA:-tensorboard}"
count=${1:?usage: launch/multiprocess.sh N --config=... --workdir=...}
shift
export JAX_COORDINATOR_ADDRESS=127.0.0.1:${PORT:-12355} JAX_NUM_PROCESSES=$count
pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT
for ((i = 0; i < count; i++)); do
  if [ -n "${DEVICES_PER_PROCESS:-}" ]; then
    first=$((i * DEVICES_PER_PROCESS))
    CUDA_VISIBLE_DEVICES=$(seq -s, "$first" $((first + DEVICES_PER_PROCESS - 1)))
    export CUDA_VISIBLE_DEVICES
  fi
  # setsid: the terminal sends Ctrl-C to every process of its session, in addition to the trap's
  # SIGTERM.
  JAX_PROCESS_ID=$i setsid python -m affect_jax.main "$@" &
  pids+=($!)
done
code=0
for pid in "${pids[@]}"; do
  status=0
  wait "$pid" || status=$?
  while kill -0 "$pid" 2>/dev/null; do wait "$pid" || status=$?; done  # a signal ends a wait early
  [ "$status" -eq 0 ] || code=$status
done
exit "$code"
