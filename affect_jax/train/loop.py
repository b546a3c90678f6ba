"""The training loop and the setup of a run.

The step number determines the position in the data, so a run resumes exactly where its checkpoint
was written. Intervals count absolute steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging

from affect_jax.config import Config
from affect_jax.core import parallel, processes
from affect_jax.core.errors import UserError
from affect_jax.data import record_reader
from affect_jax.data.dataset import load_targets, open_splits
from affect_jax.evaluate.evaluator import Evaluator
from affect_jax.models.network import create_network
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.workdir import Workdir
from affect_jax.train import initial_weights
from affect_jax.train.device_feeds import Feed, ResidentFeed, create_feed
from affect_jax.train.experiment import Experiment, create_experiment, create_training_rows
from affect_jax.train.log_writers import MetricWriter, require_packages
from affect_jax.train.metrics_log import MetricsLog
from affect_jax.train.periodic_actions import LOWEST, PeriodicActions
from affect_jax.train.preemption import StopRequest
from affect_jax.train.profiling import Profiler
from affect_jax.train.state import TrainState, create_state, state_template
from affect_jax.train.step import create_train_step
from affect_jax.train.step_intervals import Intervals


def train_and_evaluate(config: Config, workdir: Workdir, previous: Workdir | None = None) -> int:
    """Trains or resumes a run and writes all results into the workdir.

    **Arguments:** `previous`: the stage from which a new run starts; None: `config.init_from`.

    **Returns:** the exit code: 0, or 128 + the number of the signal that ended the run early.

    **Raises:** `UserError` if the data cannot be used, the loss is not finite, or the last
    checkpoint could not be written.
    """
    checkpoints = Checkpoints.from_config(config, workdir)
    with processes.raise_in_all_processes():
        require_packages(config.loggers)
        weights = None
        if processes.is_main():  # before the data are prepared: problems with weights show at once
            weights = read_initial_weights(config, checkpoints, workdir, previous)
        training, validation = open_splits(config, "training", config.evaluation.split)
        targets, label_source = load_targets(config, training)
        rows = create_training_rows(config, targets, training)
        intervals = Intervals.from_config(config, rows.steps_per_epoch)
        experiment = create_experiment(config, targets, rows.steps_per_epoch)
        evaluator = Evaluator(config, experiment, validation)
        evaluator.require_score(config.checkpoint.best)
    splits = (training, validation)
    processes.require_equal({f"prepared data: {s.name}": s.fingerprint for s in splits})
    with contextlib.ExitStack() as stack:
        verification = record_reader.verify_in_background(splits)
        stack.enter_context(checkpoints)
        state, info = restore_or_create(experiment, checkpoints, training.fingerprint, weights)
        start = int(state.step)
        writer = stack.enter_context(MetricWriter(workdir.path, start, config.loggers))
        log = MetricsLog(config, writer, intervals, experiment.schedule, start)
        stack.enter_context(contextlib.closing(log))
        log.describe(state, splits)
        log.print(*(f"{s.name}: label edits {dict(s.edits.summary)}" for s in splits if s.edits))
        log.print(label_source, evaluator.label_source, weights and weights.report.describe())
        records = training.records
        feed = create_feed(config, records, targets, rows, start, intervals, log.print)
        stack.enter_context(contextlib.closing(feed))
        profiles = config.profile and processes.is_main()
        profiler = stack.enter_context(Profiler(workdir.path / "tensorboard" if profiles else None))
        # Signals before this point end a run of one process at once: there is no step to save.
        stop = stack.enter_context(StopRequest())
        actions = PeriodicActions(
            config, workdir, experiment, checkpoints, evaluator, log, training, rows, verification
        )
        actions.best = tuple(info.get("best", (LOWEST, start)))
        train_step = create_train_step(experiment, resident=isinstance(feed, ResidentFeed))
        state = train(actions, train_step, state, feed, stop, profiler)
        step = int(state.step)
        finished = step >= intervals.total or actions.has_stopped_improving(step)
        exit_code = stop.exit_code(finished=finished)
        if processes.is_main():
            actions.finish(state, print_scores=not exit_code)
        return exit_code


def read_initial_weights(
    config: Config, checkpoints: Checkpoints, workdir: Workdir, previous: Workdir | None
) -> initial_weights.InitialWeights | None:
    """Reads the weights from which a run starts; None for random ones and if the run resumes.

    **Raises:** `UserError` if they do not fit, the trunk cannot take the crop, or the run was
    imported.
    """
    steps = checkpoints.all_steps()
    if steps == [0]:  # see `initial_weights.import_weights`
        raise UserError(
            f"{workdir.path}: its weights were imported, so there is no training to resume; "
            f"train another run from them: --config.init_from={workdir.path}"
        )
    if steps:
        return None
    create_network(config).variable_shapes()
    return initial_weights.read(config, previous)


def restore_or_create(
    experiment: Experiment,
    checkpoints: Checkpoints,
    fingerprint: str,
    weights: initial_weights.InitialWeights | None,
) -> tuple[TrainState, dict[str, Any]]:
    """Restores the newest intact checkpoint; without checkpoints, creates a fresh state.

    Process 0 does so and broadcasts the state to all processes.

    **Arguments:** `fingerprint`: of the prepared training data; `weights`: of a fresh state.

    **Returns:** the state, and in process 0 the manifest of the restored checkpoint.

    **Raises:** `UserError` if no checkpoint is intact, or the run was trained on other data.
    """
    template, info = state_template(experiment), {}
    with processes.raise_in_all_processes():
        if not processes.is_main():
            state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template)
        elif checkpoints.all_steps():
            state, info = checkpoints.restore(template, "last")
            if info.get("data") != fingerprint:
                raise UserError(
                    f"{checkpoints.directory}: the run was trained on other prepared data; pass "
                    "its --config.data.data_dir (and lists of ids), or start a new run in another "
                    "--workdir"
                )
            warn_about_numerics(info.get("numerics", {}))
            checkpoints.quarantine(newer_than=info["step"])
        else:
            state = create_state(experiment)
            state = weights.apply_to(state) if weights else state
    return processes.broadcast_from_main(state), info


def warn_about_numerics(saved: dict[str, Any]) -> None:
    """Warns if a checkpoint was written under settings that give other bits.

    **Arguments:** `saved`: see `parallel.describe_numerics`; empty if the checkpoint has none.
    """
    new = parallel.describe_numerics()
    changed = [f"{k} {old!r} -> {new.get(k)!r}" for k, old in saved.items() if old != new.get(k)]
    if changed:
        logging.warning(
            "the run resumes under other settings, so its bits differ from those of a run without "
            f"interruption: {', '.join(changed)}"
        )


def train(
    actions: PeriodicActions,
    train_step: Callable,
    state: TrainState,
    feed: Feed,
    stop: StopRequest,
    profiler: Profiler,
) -> TrainState:
    """Updates the state until the last step, until a signal stops the run, or until the score has
    not improved for `config.stop_after`."""
    intervals, start = actions.log.intervals, int(state.step)
    step = start
    state = parallel.replicate(state)
    while step < intervals.total and not actions.has_stopped_improving(step):
        profiler.before_dispatch(step - start, state)
        with jax.transfer_guard("disallow"):  # explicit transfers only
            inputs, count = next(feed)
            state, metrics = train_step(state, *inputs)
        step += count
        all_finite = actions.log.add(metrics, count)
        stopping = stop.is_due()
        evaluating, saving = intervals.is_due("evaluate", step), intervals.is_due("save", step)
        if evaluating or saving or stopping or not all_finite or intervals.is_due("log", step):
            actions.log.flush(step, feed.waited_seconds)
        if intervals.is_due("images", step):
            actions.draw_training_faces(step)
        if evaluating and (not stopping or intervals.stop_after):  # the decision needs the score
            actions.evaluate(step, state)
        if saving or stopping:
            actions.save(step, state)
        if stopping:
            break
    return state
