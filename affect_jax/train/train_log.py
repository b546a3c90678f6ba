"""The log of training: means of the steps' metrics, rates and times."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import Any

import jax

from affect_jax.config import Config, flatten
from affect_jax.core import parallel
from affect_jax.data.records import Split
from affect_jax.train import loggers, nonfinite, step_metrics
from affect_jax.train.intervals import Intervals
from affect_jax.train.state import TrainState, count_parameters


class TrainLog:
    """Gathers the steps' metrics and writes their means."""

    IN_FLIGHT = 3

    def __init__(
        self,
        writer: loggers.MultiWriter,
        progress: loggers.Progress,
        schedule: Any,
        batch_size: int,
        start: int,
        guard: nonfinite.NonFiniteGuard,
    ):
        self.writer, self.progress, self._guard = writer, progress, guard
        self._schedule, self._batch_size = schedule, batch_size
        self._pending: list[Any] = []
        self._step, self._time, self._waited = start, time.perf_counter(), 0.0
        self._elsewhere = 0.0  # seconds since the last line that went into evaluating and saving

    def describe(
        self, config: Config, state: TrainState, splits: tuple[Split, Split], intervals: Intervals
    ) -> None:
        """Writes what is about to run to the terminal, and to TensorBoard's hparams."""
        count, start = count_parameters(state.params), int(state.step)
        training, validation = splits
        self.say(
            f"{config.trunk.name}, {count:,} parameters; {len(training):,} faces to train on, "
            f"{len(validation):,} to evaluate; "
            f"{jax.device_count()} x {jax.devices()[0].device_kind}; "
            f"{intervals.total:,} steps of {config.batch_size}, {intervals.steps_per_epoch:,} an "
            "epoch" + (f"; resuming from step {start:,}" if start else "")
        )
        if not start:
            self.writer.write_hparams({**flatten(config), "parameters": count})

    def say(self, *sentences: str | None) -> None:
        """Prints sentences on the terminal; empty ones are left out."""
        for sentence in filter(None, sentences):
            self.progress.say(sentence)

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
        host = step_metrics.one_a_step(parallel.to_host(self._pending))
        good = self._guard.filter_finite(self._step + 1, host)
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
