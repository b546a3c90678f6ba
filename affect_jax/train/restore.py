"""The state a run starts from: its newest checkpoint, weights weights, or a fresh initialization."""

from __future__ import annotations

from affect_jax.core import parallel
from affect_jax.core.errors import UserError
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.train.experiment import Experiment
from affect_jax.train.initial_weights import WarmStart
from affect_jax.train.state import TrainState, create_state, state_template, zero_state


def restore_and_broadcast(
    experiment: Experiment,
    checkpoints: Checkpoints,
    fingerprint: str,
    weights: WarmStart | None,
) -> TrainState:
    """`restore_or_create` by one process for all, whose data must be the same.

    **Raises:** `UserError` where a process has other data; else as `restore_or_create`.
    """
    number = int(fingerprint[:7], 16)
    if parallel.process_max(number) != number:
        raise UserError(
            "the processes of the run have prepared data that differ: copy the folder of "
            "config.data.data_dir to all, or put it where all see it"
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
    weights: WarmStart | None = None,
) -> TrainState:
    """The run's newest whole checkpoint; where it has none, a fresh state, from weights if weights.

    **Raises:** `UserError` where no checkpoint is whole, or the data are not those of the run.
    """
    if not checkpoints.steps():
        fresh = create_state(experiment)
        return weights.into(fresh) if weights else fresh
    state, info = checkpoints.restore(state_template(experiment), "last")
    if info["data"] != fingerprint:
        raise UserError(
            f"{checkpoints.directory}: the run was trained on other prepared data; give its "
            "--config.data.data_dir, or start anew in another --workdir"
        )
    checkpoints.set_aside(after=info["step"])
    return state
