"""The training loop and the setup of a run.

The step number determines the position in the data, so a run resumes exactly where its checkpoint
was written. Intervals count absolute steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import jax

from affect_jax.config import Config
from affect_jax.core import parallel
from affect_jax.data import record_reader
from affect_jax.data.dataset import prepare_dataset
from affect_jax.data.targets import load_targets
from affect_jax.data.tfds_builder import open_split
from affect_jax.evaluate.evaluator import Evaluator
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.workdir import Workdir
from affect_jax.train import device_feeds, initial_weights, log_writers
from affect_jax.train.experiment import create_experiment, create_training_rows
from affect_jax.train.metrics_log import MetricsLog
from affect_jax.train.nonfinite import NonFiniteGuard
from affect_jax.train.periodic_actions import PeriodicActions
from affect_jax.train.preemption import StopRequest
from affect_jax.train.profiling import Profiler
from affect_jax.train.resume import restore_and_broadcast
from affect_jax.train.state import TrainState
from affect_jax.train.step import create_train_step
from affect_jax.train.step_intervals import Intervals


def train_and_evaluate(config: Config, workdir: Workdir) -> int:
    """Trains or resumes a run and writes all results into the workdir.

    **Returns:** the exit code: 0, or 128 + the number of the signal that ended the run early.

    **Raises:** `UserError` if the data cannot be used, the loss is not finite, or the last
    checkpoint could not be written.
    """
    checkpoints = Checkpoints.from_config(config, workdir)
    # Read before the data are prepared, so that problems with `init_from` show at once.
    starts_fresh = parallel.is_main() and not checkpoints.all_steps()
    weights = initial_weights.read(config) if starts_fresh else None
    builder = prepare_dataset(config)
    training = open_split(builder, "training")
    validation = open_split(builder, config.evaluation.split)
    targets, label_source = load_targets(config, training)
    rows = create_training_rows(config, targets)
    intervals = Intervals.from_config(config, rows.steps_per_epoch)
    experiment = create_experiment(config, targets, rows.steps_per_epoch)
    evaluator = Evaluator(config, experiment, validation)
    evaluator.require_score(config.checkpoint.best)
    with contextlib.ExitStack() as stack:
        verification = stack.enter_context(
            record_reader.BackgroundVerification([training, validation])
        )
        stack.enter_context(checkpoints)
        state = restore_and_broadcast(experiment, checkpoints, training.fingerprint, weights)
        start = int(state.step)
        writer = stack.enter_context(log_writers.create_writer(workdir.path, start))
        progress = stack.enter_context(
            log_writers.Progress(intervals.total, start, intervals.steps_per_epoch)
        )
        guard = NonFiniteGuard.from_config(config, workdir, training, rows)
        log = MetricsLog(writer, progress, experiment.schedule, config.batch_size, start, guard)
        log.describe(config, state, (training, validation), intervals)
        log.print(label_source, evaluator.label_source, weights and weights.report.describe())
        feed = device_feeds.create_feed(
            config, training.records, targets, rows, start, intervals, log.print
        )
        stack.enter_context(contextlib.closing(feed))
        profiler = stack.enter_context(Profiler.from_config(config, workdir))
        # Signals before this point end the process at once: there is no step to save.
        stop = stack.enter_context(StopRequest(parallel.announce_stop))
        actions = PeriodicActions(
            config, workdir, intervals, checkpoints, evaluator, stop, log, training, rows,
            verification,
        )  # fmt: skip
        train_step = create_train_step(experiment, resident=feed.resident)
        state = train(actions, train_step, state, feed, profiler)
        return actions.finish(state)


def train(
    actions: PeriodicActions,
    train_step: Callable,
    state: TrainState,
    feed: device_feeds.Feed,
    profiler: Profiler,
) -> TrainState:
    """Updates the state until the last step, or until a signal stops the run."""
    intervals, start = actions.intervals, int(state.step)
    step = start
    state = parallel.replicate(state)
    while step < intervals.total:
        profiler.before_dispatch(step - start, state)
        with jax.transfer_guard("disallow"):  # explicit transfers only
            inputs, count = next(feed)
            state, metrics = train_step(state, *inputs)
        step += count
        all_finite = actions.log.add(metrics, count)
        stopping = actions.should_stop()
        evaluating, saving = intervals.is_due("evaluate", step), intervals.is_due("save", step)
        if evaluating or saving or stopping or not all_finite or intervals.is_due("log", step):
            actions.log.flush(step, feed.waited_seconds)
        if intervals.is_due("images", step):
            actions.draw_training_faces(step)
        scores = actions.evaluate(step, state) if evaluating and not stopping else None
        if saving or stopping:
            actions.save(step, state, scores)
        if stopping:
            break
    return state
