"""Trains the stages of a config in order: each is a run that starts from the one before."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from affect_jax.config import MUTABLE_KEYS, Config, create_stages, to_dict
from affect_jax.core import processes
from affect_jax.data.dataset import load_targets, open_splits
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.workdir import Workdir
from affect_jax.train import initial_weights
from affect_jax.train.experiment import create_experiment, create_training_rows
from affect_jax.train.loop import train_and_evaluate
from affect_jax.train.state import state_template


def train_stages(config: Config, workdir: Workdir) -> int:
    """Trains or resumes the run of a config, after its earlier stages if it has any.

    Stage k is a run in `WORKDIR/stageK`, the last stage the run in WORKDIR. Stages before one that
    has a checkpoint are finished and are skipped.

    **Returns:** the exit code of the last stage that was trained, see `train_and_evaluate`.

    **Raises:** `UserError` before the first stage if a later one cannot start from its weights, if
    the data of a stage cannot be used or do not fit its settings; and as `train_and_evaluate`.
    """
    with _open_run(config, workdir):
        configs, exit_code = create_stages(config), 0
        folders = [Workdir(workdir.path / f"stage{k}") for k in range(1, len(configs))] + [workdir]
        last, first = len(configs) - 1, 0
        with processes.raise_in_all_processes():
            if processes.is_main() and last:
                started = [k for k in range(last + 1) if _has_checkpoint(configs[k], folders[k])]
                first = max(started, default=0)
                if not started:
                    initial_weights.read(configs[0])
                initial_weights.check_stages(configs)
        first = processes.process_max(first)
        with processes.raise_in_all_processes():
            for stage in configs[first:] if first < last else ():
                _check_data(stage)
        for k in range(first, last + 1):
            if last and processes.is_main():
                print(f"stage {k + 1} of {last + 1}: {folders[k].path}", file=sys.stderr)
            previous = folders[k - 1] if k else None
            with _open_run(configs[k], folders[k]) if k < last else contextlib.nullcontext():
                exit_code = train_and_evaluate(configs[k], folders[k], previous)
            if exit_code:
                break
        return exit_code


def _check_data(config: Config) -> None:
    """Prepares the data of a stage and checks the settings that depend on them."""
    training, _ = open_splits(config, "training", config.evaluation.split)
    targets, _ = load_targets(config, training)
    rows = create_training_rows(config, targets, training)
    state_template(create_experiment(config, targets, rows.steps_per_epoch))


def _has_checkpoint(config: Config, workdir: Workdir) -> bool:
    return bool(Checkpoints.from_config(config, workdir).all_steps())


@contextlib.contextmanager
def _open_run(config: Config, workdir: Workdir) -> Iterator[None]:
    """Locks the folder of a run and saves its config; only the main process writes the folder.

    **Raises:** `UserError` if the folder has checkpoints of another config.
    """
    with contextlib.ExitStack() as stack:
        with processes.raise_in_all_processes():
            if processes.is_main():
                workdir.create()
                stack.enter_context(workdir.lock())
                if _has_checkpoint(config, workdir):  # without one there is no run to resume
                    workdir.check_config(to_dict(config), MUTABLE_KEYS)
                workdir.save_config(to_dict(config))
        yield
