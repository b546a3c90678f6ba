#!/usr/bin/env bash
# Trains in N processes on this machine: a rehearsal of many hosts, or one process a GPU.
#   bash launch/multiprocess.sh N --config=... --workdir=...
# Set: PORT, a free one (default 12355); DEVICES_PER_PROCESS to give process i the GPUs i*n to
#   i*n+n-1 (default: each process sees all, which is right for CPUs only).
# Data: every process reads the same config.data.data_dir; the first to come prepares it. Of each
#   global batch a process loads its slice, so N processes see what one would see.
# Process 0 alone writes the workdir: checkpoints, metrics, TensorBoard.
# To resume: the same command, with the same or another N. When a process dies the others end
#   within a minute, and so does this script, with an exit code that is not 0.
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
  # In a session of its own: Ctrl-C comes to every process of a terminal, and from the trap once
  # more, which would be the second signal that ends a run at once.
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
