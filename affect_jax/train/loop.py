"""The training loop, and the order in which a run is set up.

The number of updates done is the position in the data, so a run resumes exactly where its
checkpoint was written. Intervals count absolute steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import jax

from affect_jax.config import Config
from affect_jax.core import parallel
from affect_jax.data import records
from affect_jax.data.builder import open_split
from affect_jax.data.targets import load_targets, prepare_dataset
from affect_jax.evaluate.evaluator import Evaluator
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.workdir import Workdir
from affect_jax.train import feeds, initial_weights, loggers
from affect_jax.train.experiment import create_experiment, training_rows
from affect_jax.train.intervals import Intervals
from affect_jax.train.nonfinite import NonFiniteGuard
from affect_jax.train.preemption import StopRequest
from affect_jax.train.profiling import Profiler
from affect_jax.train.restore import restore_and_broadcast
from affect_jax.train.state import TrainState
from affect_jax.train.step import create_train_step
from affect_jax.train.train_log import TrainLog
from affect_jax.train.training_run import TrainingRun


def train_and_evaluate(config: Config, workdir: Workdir) -> int:
    """Trains, or resumes training, to the end; writes everything into the workdir.

    **Returns:** the exit code: 0, or 128 + the number of the signal that ended the run early.

    **Raises:** `UserError` if the data cannot be used, the loss is not finite, or the last
    checkpoint could not be written.
    """
    checkpoints = Checkpoints.of(config, workdir)
    # Read before data are prepared, so that problems of `init_from` show at once.
    starts_fresh = parallel.is_main() and not checkpoints.steps()
    weights = initial_weights.read(config) if starts_fresh else None
    builder = prepare_dataset(config)
    training = open_split(builder, "training")
    validation = open_split(builder, config.evaluation.split)
    targets, label_source = load_targets(config, training)
    rows = training_rows(config, targets)
    intervals = Intervals.of(config, rows.steps_per_epoch)
    experiment = create_experiment(config, targets, rows.steps_per_epoch)
    evaluator = Evaluator(config, experiment, validation)
    evaluator.require_score(config.checkpoint.best)
    with contextlib.ExitStack() as stack:
        verification = stack.enter_context(records.Verification([training, validation]))
        stack.enter_context(checkpoints)
        state = restore_and_broadcast(experiment, checkpoints, training.fingerprint, weights)
        start = int(state.step)
        writer = stack.enter_context(loggers.create_writer(workdir.path, start))
        progress = stack.enter_context(
            loggers.Progress(intervals.total, start, intervals.steps_per_epoch)
        )
        guard = NonFiniteGuard.of(config, workdir, training, rows)
        log = TrainLog(writer, progress, experiment.schedule, config.batch_size, start, guard)
        log.describe(config, state, (training, validation), intervals)
        log.say(label_source, evaluator.label_source, weights and weights.report.table())
        feed = feeds.create_feed(config, training.records, targets, rows, start, intervals, log.say)
        stack.enter_context(contextlib.closing(feed))
        profiler = stack.enter_context(Profiler.of(config, workdir))
        # Not earlier: before the first step there is nothing to save.
        stop = stack.enter_context(StopRequest(parallel.announce))
        run = TrainingRun(
            config, workdir, intervals, checkpoints, evaluator, stop, log, training, rows,
            verification,
        )  # fmt: skip
        train_step = create_train_step(experiment, resident=feed.resident)
        state = train(run, train_step, state, feed, profiler)
        return run.finish(state)


def train(
    run: TrainingRun,
    train_step: Callable,
    state: TrainState,
    feed: feeds.Feed,
    profiler: Profiler,
) -> TrainState:
    """Updates the state until the last step, or until a signal asks the run to stop."""
    intervals, step = run.intervals, int(state.step)
    state = parallel.replicate(state)
    while step < intervals.total:
        with jax.transfer_guard("disallow"):  # explicit transfers only
            inputs, count = next(feed)
            state, metrics = train_step(state, *inputs)
        step += count
        profiler.step(count, metrics)
        all_finite = run.log.add(metrics, count)
        stopping = run.should_stop()
        evaluating, saving = intervals.due("evaluate", step), intervals.due("save", step)
        if evaluating or saving or stopping or not all_finite or intervals.due("log", step):
            run.log.flush(step, feed.waited_seconds)
        if intervals.due("images", step):
            run.draw_training_faces(step)
        scores = run.evaluate(step, state) if evaluating and not stopping else None
        if saving or stopping:
            run.save(step, state, scores)
        if stopping:
            break
    return state
