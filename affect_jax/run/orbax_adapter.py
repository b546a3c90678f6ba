"""Settings, checkpoint manager and array reader built on Orbax; used by `Checkpoints`."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from affect_jax.core.errors import first_line
from affect_jax.run.checkpoint_manifest import DamagedCheckpointError

# Orbax times a save by the wall clock: if the clock jumps by a day, the save seems to take a day.
NO_TIMEOUT_SECONDS = 30 * 365 * 86_400
MAIN_PROCESS_ONLY = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix="affect_jax"
)
"""Only the main process writes and reads checkpoints: the state is replicated on all devices."""


@dataclasses.dataclass(frozen=True)
class PreserveOne(policies.PreservationPolicy):
    """Preserves one checkpoint.

    **Arguments:** `choose_step`: all steps -> the step to keep, or None.
    """

    choose_step: Callable[[Sequence[int]], int | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        chosen = self.choose_step([checkpoint.step for checkpoint in checkpoints])
        return [checkpoint.step == chosen for checkpoint in checkpoints]


class CheckpointManager(ocp.CheckpointManager):
    """Orbax's manager without JAX's preemption service.

    Orbax would query the service with the step at each save. The processes of a run agree on a
    number of dispatches instead (`parallel.reached_agreed_stop`), and only one of them saves.
    """

    def reached_preemption(self, step: int) -> bool:
        return False


def create_handlers() -> dict[str, ocp.CheckpointHandler]:
    """Creates handlers without compression, which saves only 8% and takes 3 times the CPU time."""
    return {
        "state": ocp.PyTreeCheckpointHandler(
            use_compression=False, multiprocessing_options=MAIN_PROCESS_ONLY
        ),
        "info": ocp.JsonCheckpointHandler(multiprocessing_options=MAIN_PROCESS_ONLY),
    }


def iterate_arrays(
    folder: pathlib.Path, expected: dict[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """Reads arrays one at a time: Orbax prints a traceback for each parallel read that fails."""
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=MAIN_PROCESS_ONLY)
    as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
    with ocp.Checkpointer(handler, multiprocessing_options=MAIN_PROCESS_ONLY) as reader:
        for name, leaf in expected.items():
            request = ocp.args.PyTreeRestore(
                {name: np.empty(leaf.shape, leaf.dtype)},
                restore_args={name: as_numpy},
                partial_restore=True,
            )
            try:
                restored = reader.restore(folder, args=request)
            except Exception as error:  # tensorstore, zarr, JSON and Orbax raise different classes
                raise DamagedCheckpointError(
                    f"its arrays cannot be read ({first_line(error)})"
                ) from error
            yield name, np.asarray(restored[name])
