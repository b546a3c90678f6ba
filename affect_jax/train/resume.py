"""The first state of a run: its newest checkpoint, initial weights or a random initialization."""

from __future__ import annotations

from affect_jax.core import parallel
from affect_jax.core.errors import UserError
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.train.experiment import Experiment
from affect_jax.train.initial_weights import InitialWeights
from affect_jax.train.state import TrainState, create_state, state_template, zero_state


def restore_and_broadcast(
    experiment: Experiment,
    checkpoints: Checkpoints,
    fingerprint: str,
    weights: InitialWeights | None,
) -> TrainState:
    """Calls `restore_or_create` in process 0 and broadcasts the state to all processes.

    **Raises:** `UserError` if the processes have different data; also as `restore_or_create`.
    """
    fingerprint_number = int(fingerprint[:7], 16)
    if parallel.process_max(fingerprint_number) != fingerprint_number:
        raise UserError(
            "the prepared data of the run's processes differ: copy the folder config.data.data_dir "
            "to all machines, or move it to storage that all of them share"
        )
    if not parallel.is_main():
        return parallel.broadcast_from_main(zero_state(experiment))
    return parallel.broadcast_from_main(
        restore_or_create(experiment, checkpoints, fingerprint, weights)
    )


def restore_or_create(
    experiment: Experiment,
    checkpoints: Checkpoints,
    fingerprint: str,
    weights: InitialWeights | None = None,
) -> TrainState:
    """Restores the newest intact checkpoint; without checkpoints, creates a fresh state.

    **Arguments:**

    - `fingerprint`: of the prepared training data.
    - `weights`: initial weights of a fresh state, or None.

    **Raises:** `UserError` if no checkpoint is intact, or the run was trained on other data.
    """
    if not checkpoints.all_steps():
        fresh = create_state(experiment)
        return weights.apply_to(fresh) if weights else fresh
    state, info = checkpoints.restore(state_template(experiment), "last")
    if info["data"] != fingerprint:
        raise UserError(
            f"{checkpoints.directory}: the run was trained on other prepared data; pass its "
            "--config.data.data_dir, or start a new run in another --workdir"
        )
    checkpoints.quarantine(newer_than=info["step"])
    return state
