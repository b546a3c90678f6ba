"""The training loop: one screen, and the parts it is made of.

Order of operations. Once: data, program, state (the run's own newest checkpoint, else the weights
that `init_from` names, else fresh).
Each step: batch, update; then, where the step's number calls for it: log, evaluate, save, and
only after a save does a signal end the run. The number of updates done *is* the position in the
data, so a run goes on exactly where its checkpoint was written. Cadences count absolute steps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import signal
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from affect_jax import batch as batches
from affect_jax import config as configs
from affect_jax import (
    feeds,
    inference,
    nonfinite,
    parallel,
    pictures,
    predictions,
    program,
    scores,
    warm_start,
    writers,
)
from affect_jax import state as states
from affect_jax.cadence import Cadence
from affect_jax.checkpoints import Checkpoints
from affect_jax.config import Config
from affect_jax.data import decoding, features, records, sampling
from affect_jax.errors import UserError
from affect_jax.metrics import stream
from affect_jax.signals import StopRequest
from affect_jax.workdir import Workdir

PANEL = 12  # faces in the panel of an evaluation


def fit(config: Config, workdir: Workdir) -> int:
    """Trains, or goes on training, to the end; writes everything into the workdir.

    **Returns:** the exit code: 0, or 128 + the signal's number when one ended the run early.

    **Raises:** `UserError` where the data cannot be used, the loss is not finite, or the last
    checkpoint could not be written.
    """
    checkpoints = Checkpoints.of(config, workdir)
    # Problems of `init_from` are told before data are prepared.
    fresh = parallel.is_main() and not checkpoints.steps()
    given = warm_start.read(config) if fresh else None
    builder = program.prepare(config)
    training = features.open_split(builder, "training")
    validation = features.open_split(builder, config.evaluation.split)
    ids = training.columns("id")["id"]
    targets, told = program.load_targets(config, training)
    rows = training_rows(config, targets)
    cadence = Cadence.of(config, rows.steps_per_epoch)
    compiled = program.create_program(config, targets, rows.steps_per_epoch)
    evaluator = inference.Evaluator(config, compiled, validation)
    check_best_score(config.checkpoint.best, evaluator)
    with contextlib.ExitStack() as stack:
        verification = stack.enter_context(records.Verification([training, validation]))
        stack.enter_context(checkpoints)
        state = everywhere(compiled, checkpoints, training.fingerprint, given)
        start = int(state.step)
        writer = stack.enter_context(writers.create_writer(workdir.path, start))
        progress = stack.enter_context(
            writers.Progress(cadence.total, start, cadence.steps_per_epoch)
        )
        sieve = nonfinite.NonFinite(
            workdir.path, config.skip_nonfinite, lambda step: ids[rows[step - 1]].tolist()
        )
        log = Log(writer, progress, compiled.schedule, config.batch_size, start, sieve)
        describe(config, log, state, training, validation, cadence, (told, evaluator.told))
        if given is not None:
            progress.say(given.report.table())
        feed = feeds.create(
            config, compiled, training.records, targets, rows, start, cadence, progress.say
        )
        stack.enter_context(contextlib.closing(feed))
        # Not before: a signal that comes while faces are decoded has nothing to save.
        stop = stack.enter_context(StopRequest(parallel.announce))
        parts = (cadence, checkpoints, evaluator, stop, log, training, rows, verification)
        run = Run(config, workdir, *parts)
        state = run.loop(state, feed)
        code = run.exit_code(state)
        if parallel.is_main():
            if not code:
                run.conclude(state)
            run.secure(state)
        return code


def training_rows(config: Config, targets: dict[str, np.ndarray]) -> sampling.TrainingRows:
    """Which faces each step of the run sees."""
    return sampling.TrainingRows(
        sampling.SAMPLERS.create(configs.plain(config.sampling)),
        np.where(targets["expression_mask"], targets["expression"], -1),
        seed=config.seed,
        batch_size=config.batch_size,
        eligible=batches.annotated(targets, config.heads),
    )


def check_best_score(name: str, evaluator: inference.Evaluator) -> None:
    """Whether evaluation will have the score that `checkpoint.best` names, before hours pass."""
    known = scores.score(evaluator.chance(), draws=1).values
    if name and name.removeprefix("-") not in known:
        raise UserError(f"checkpoint.best = {configs.unknown(name, scores.HEADLINES)}")


def everywhere(
    compiled: program.Program,
    checkpoints: Checkpoints,
    fingerprint: str,
    given: warm_start.WarmStart | None,
) -> states.TrainState:
    """`restore_or_create` by one process for all, whose data must be the same.

    **Raises:** `UserError` where a process has other data; else as `restore_or_create`.
    """
    number = int(fingerprint[:7], 16)
    if parallel.largest(number) != number:
        raise UserError(
            "the processes of the run have prepared data that differ: copy the folder of "
            "config.data.data_dir to all, or put it where all see it"
        )
    if not parallel.is_main():
        return parallel.from_main(states.zeros(compiled))
    return parallel.from_main(restore_or_create(compiled, checkpoints, fingerprint, given))


def restore_or_create(
    compiled: program.Program,
    checkpoints: Checkpoints,
    fingerprint: str,
    given: warm_start.WarmStart | None = None,
) -> states.TrainState:
    """The run's newest whole checkpoint; where it has none, a fresh state, from weights if given.

    **Raises:** `UserError` where no checkpoint is whole, or the data are not those of the run.
    """
    if not checkpoints.steps():
        fresh = states.create(compiled)
        return given.into(fresh) if given else fresh
    state, info = checkpoints.restore(states.template(compiled), "last")
    if info["data"] != fingerprint:
        raise UserError(
            f"{checkpoints.directory}: the run was trained on other prepared data; give its "
            "--config.data.data_dir, or start anew in another --workdir"
        )
    checkpoints.set_aside(after=info["step"])
    return state


def describe(
    config: Config,
    log: Log,
    state: states.TrainState,
    training: features.Split,
    validation: features.Split,
    cadence: Cadence,
    told: Sequence[str],
) -> None:
    """What is about to run: to the terminal and to TensorBoard's hparams."""
    count = states.count(state.params)
    start = int(state.step)
    log.progress.say(
        f"{config.trunk.name}, {count:,} parameters; {len(training):,} faces to train on, "
        f"{len(validation):,} to evaluate; {jax.device_count()} x {jax.devices()[0].device_kind}; "
        f"{cadence.total:,} steps of {config.batch_size}, {cadence.steps_per_epoch:,} an epoch"
        + (f"; going on from step {start:,}" if start else "")
    )
    for sentence in filter(None, told):
        log.progress.say(sentence)
    if not start:
        log.writer.write_hparams({**configs.flatten(config), "parameters": count})


class Log:
    """Gathers the steps' metrics and writes their means."""

    IN_FLIGHT = 3

    def __init__(
        self,
        writer: writers.MultiWriter,
        progress: writers.Progress,
        schedule: Any,
        batch_size: int,
        start: int,
        sieve: nonfinite.NonFinite,
    ):
        self.writer, self.progress, self._sieve = writer, progress, sieve
        self._schedule, self._batch_size = schedule, batch_size
        self._pending: list[Any] = []
        self._step, self._time, self._waited = start, time.perf_counter(), 0.0
        self._elsewhere = 0.0  # seconds since the last line that went into evaluating and saving

    def add(self, metrics: Any, count: int) -> bool:
        """Takes the metrics of an update, or of several that went out together.

        Waits where the devices are more than `IN_FLIGHT` such behind: so a signal is answered
        after a few, not after all that were given out since a line.

        **Returns:** whether all is well as far as the devices have come; else a line is due.
        """
        self._pending.append(metrics)
        self.progress.advance(count)
        done = self._pending[: -self.IN_FLIGHT][-1:]
        return all(map(nonfinite.finite, done))

    def flush(self, step: int, waited_seconds: float) -> None:
        """Writes the means since the last line.

        **Raises:** `UserError` where the loss is not finite, more often than it may be.
        """
        if not self._pending:
            return
        # Waits for the devices, once a line.
        host = stream.one_a_step(parallel.to_host(self._pending))
        good = self._sieve.sift(self._step + 1, host)
        now = time.perf_counter()
        if good:
            means = functools.reduce(lambda a, b: a.merge(b), good).compute()
            self._write(
                step, {name: float(value) for name, value in means.items()}, now, waited_seconds
            )
        self._pending, self._step, self._time = [], step, now
        self._waited, self._elsewhere = waited_seconds, 0.0

    def _write(
        self, step: int, values: dict[str, float], now: float, waited_seconds: float
    ) -> None:
        seconds = max(now - self._time - self._elsewhere, 1e-9)
        faces = (step - self._step) * self._batch_size
        values["learning_rate"] = float(self._schedule(step - 1))
        values["images_per_second"] = faces / seconds
        values["data_wait_share"] = (waited_seconds - self._waited) / seconds
        self.writer.write_scalars(step, {f"train.{name}": v for name, v in values.items()})
        names = ("loss", "images_per_second", "learning_rate", "data_wait_share")
        self.progress.line(step, **{name: values[name] for name in names})

    @contextlib.contextmanager
    def other_work(self, name: str, step: int) -> Any:
        """Counts time that is no training, and shows it as such."""
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        self._elsewhere += seconds
        self.writer.write_scalars(step, {f"time.{name}_seconds": seconds})


@dataclasses.dataclass
class Run:
    """What the loop needs beside the state: each part is made once, by `fit`."""

    config: Config
    workdir: Workdir
    cadence: Cadence
    checkpoints: Checkpoints
    evaluator: inference.Evaluator
    stop: StopRequest
    log: Log
    training: features.Split
    rows: sampling.TrainingRows
    verification: records.Verification
    scored: tuple[int, scores.Scores] | None = None  # the newest evaluation and its step
    updates: int = 0  # given out since this process began

    def loop(self, state: states.TrainState, feed: feeds.Feed) -> states.TrainState:
        """Updates from the state's step to the last one, or to a signal: the whole of training."""
        cadence, step = self.cadence, int(state.step)
        state = parallel.replicate(state)
        while step < cadence.total:
            with jax.transfer_guard("disallow"):  # what crosses to a device is put there
                state, metrics, count = feed.update(state, step)
            step += count
            well = self.log.add(metrics, count)
            stopping = self.stopping()
            evaluating, saving = cadence.due("evaluate", step), cadence.due("save", step)
            if evaluating or saving or stopping or not well or cadence.due("log", step):
                self.log.flush(step, feed.waited_seconds)
            if cadence.due("images", step):
                self.log.writer.draw_images(step, functools.partial(self.faces, step))
            scored = self.evaluate(step, state) if evaluating and not stopping else None
            if saving or stopping:
                self.save(step, state, scored)
            if stopping:
                break
        return state

    def faces(self, step: int) -> dict[str, np.ndarray]:
        """The picture of a step: its batch's first faces as they are stored, uint8 [n, S, S, 3]."""
        rows, size = self.rows[step - 1][:PANEL], self.config.data.image_size
        return {"training_faces": decoding.faces(self.training.records, rows, size)}

    def stopping(self) -> bool:
        """Whether a signal ends the run after this update: the same answer in every process."""
        self.updates += 1
        if not parallel.several():
            return self.stop.received is not None
        return parallel.agreed_to_stop(self.updates)

    def exit_code(self, state: states.TrainState) -> int:
        """0, or 128 + the number of the signal that ended the run: the same in every process."""
        number = parallel.largest(self.stop.received or 0)  # one may have come too late to agree
        if not number and int(state.step) < self.cadence.total:  # a cluster's own notice
            number = int(signal.SIGTERM)
        return 128 + number if number else 0

    def conclude(self, state: states.TrainState) -> None:
        """The last word of a run that came to its end: a table of its scores."""
        last = self.cadence.total
        if self.scored is None or self.scored[0] != last:
            self.evaluate(last, state)
        assert self.scored is not None
        self.checkpoints.wait()
        best = self.checkpoints.best()
        print(f"{self.evaluator.split.name}, step {last:,} (the last):\n")
        print(scores.summary(self.scored[1]))
        if best is not None:
            print(f"\nbest {self.config.checkpoint.best}: step {best:,}; --mode=evaluate scores it")

    def secure(self, state: states.TrainState) -> None:
        """Returns when the last checkpoint is on disk, or raises `UserError`; it is tried twice."""
        step = int(state.step)
        self.checkpoints.wait()
        if step not in self.checkpoints.steps():
            self.checkpoints.close()  # what failed in Orbax's threads is over with them
            scored = self.scored[1] if self.scored and self.scored[0] == step else None
            self.save(step, state, scored)
        self.checkpoints.require(step)

    def evaluate(self, step: int, state: states.TrainState) -> scores.Scores:
        """Scores of the evaluation split, written to the log; by each process for itself."""
        with self.log.other_work("evaluate", step):
            table = self.evaluator(states.variables(state))
            found = scores.score(table, draws=self.config.evaluation.draws)
            self.log.writer.write_scalars(step, found.values)
            self.log.writer.draw_images(step, functools.partial(self.pictures, table))
        self.scored = step, found
        shown = list(scores.headlines(found).items())[:2]
        self.log.progress.say(
            f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in shown)
        )
        return found

    def pictures(self, table: predictions.Predictions) -> dict[str, np.ndarray]:
        """What an evaluation shows: confusions, and faces with their labels and predictions."""
        # Evenly spaced over the split, whose records are in no order: faces of many classes.
        rows = np.linspace(0, len(table) - 1, min(PANEL, len(table))).astype(int)
        faces = self.evaluator.faces(rows)
        points, sides = (
            self.evaluator.targets[name][rows] for name in ("landmarks", "action_unit_sides")
        )
        shown = {"faces": pictures.panel(faces, points, sides, table, rows)}
        if table.probabilities is not None:
            shown["confusion"] = pictures.confusion(table)
        return shown

    def save(self, step: int, state: states.TrainState, scored: scores.Scores | None) -> None:
        """One checkpoint, written while training goes on, by one process.

        **Raises:** `UserError` where the data are not those that were prepared.
        """
        self.verification.check()
        if not parallel.is_main():
            return
        if self.workdir.hold_again():
            self.workdir.save_config(configs.plain(configs.located(self.config)))
            self.log.writer.open()
            self.log.progress.say(
                f"{self.workdir.path} was deleted or moved during the run; a new one holds what "
                "comes from here on"
            )
        with self.log.other_work("save", step):
            info = {
                "epoch": step / self.cadence.steps_per_epoch,
                "data": self.training.fingerprint,
                "config": configs.plain(configs.located(self.config)),
                "machine": parallel.machine(),
            }
            # A copy: on a CPU the host's array may be the device's memory, which is donated.
            host = jax.tree.map(np.array, parallel.to_host(state))
            self.checkpoints.save(step, host, info, scored.values if scored else None)
