"""Training log: means of the steps' metrics, rates and times, in files and on the terminal."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from absl import logging

from affect_jax.config import Config, flatten, to_dict
from affect_jax.core import processes
from affect_jax.core.errors import UserError
from affect_jax.data.record_reader import Split
from affect_jax.train import optimizers
from affect_jax.train.log_writers import MetricWriter
from affect_jax.train.state import TrainState
from affect_jax.train.step_intervals import Intervals


class MetricsLog:
    """Collects the steps' metrics, writes their means and shows progress in process 0.

    Progress is a bar on a terminal, with loss, images per second and the time left; else lines.

    **Arguments:** `schedule`: step -> learning rate; `start`: the step that the run resumes from.
    """

    IN_FLIGHT = 3
    """Dispatches that the devices may be behind the host."""

    def __init__(
        self, config: Config, writer: MetricWriter, intervals: Intervals, schedule: Any, start: int
    ):
        self._config, self._schedule = config, schedule
        self.writer, self.intervals = writer, intervals
        self._pending: list[Any] = []
        self._num_skipped = 0
        self._step, self._time, self._waited_seconds = start, time.perf_counter(), 0.0
        self._other_seconds = 0.0  # of evaluation and saving since the last flush
        self._bar = tqdm.tqdm(
            total=intervals.total,
            initial=start,
            unit="step",
            disable=None if processes.is_main() else True,  # None: shown on a terminal only
            dynamic_ncols=True,
        )

    def describe(self, state: TrainState, splits: tuple[Split, Split]) -> None:
        """Prints a description of the run; a new run also writes its config to TensorBoard."""
        count, start = sum(leaf.size for leaf in jax.tree.leaves(state.params)), int(state.step)
        (training, validation), config, intervals = splits, self._config, self.intervals
        self.print(
            f"{config.trunk.name}, {count:,} parameters; {len(training):,} training faces, "
            f"{len(validation):,} evaluation faces; "
            f"{jax.device_count()} x {jax.devices()[0].device_kind}; {intervals.total:,} steps of "
            f"{config.batch_size}, {intervals.steps_per_epoch:,} an epoch"
            + (f"; resuming from step {start:,}" if start else "")
        )
        self.print(optimizers.describe_rates(to_dict(config.optimizer)))
        if not start:
            self.writer.write_hparams({**flatten(config), "parameters": count})

    def print(self, *lines: str | None) -> None:
        """Prints lines on the terminal, above the bar if there is one; skips empty ones."""
        for line in filter(None, lines):
            if processes.is_main():
                tqdm.tqdm.write(line, file=sys.stderr)

    def add(self, metrics: Any, count: int) -> bool:
        """Adds the metrics of one dispatch of `count` updates.

        Waits if the devices are more than `IN_FLIGHT` dispatches behind, so that a signal stops
        the run after a few steps, not after all steps since the last log line.

        **Returns:** whether the newest finished dispatch is finite; if not, call `flush`.
        """
        self._pending.append(metrics)
        self._bar.update(count)
        newest_finished = self._pending[: -self.IN_FLIGHT][-1:]
        return all(map(is_finite, newest_finished))

    def flush(self, step: int, waited_seconds: float) -> None:
        """Writes the means since the last flush.

        **Arguments:** `waited_seconds`: total time that the feed has waited for data.

        **Raises:** `UserError` if more steps are not finite than `config.skip_nonfinite` allows.
        """
        collections = split_steps(jax.device_get(self._pending))  # waits for the devices
        finite = self.filter_finite(self._step + 1, collections)
        now = time.perf_counter()
        if finite:
            means = functools.reduce(lambda a, b: a.merge(b), finite).compute()
            seconds = max(now - self._time - self._other_seconds, 1e-9)
            values = {
                **{name: float(value) for name, value in means.items()},
                "learning_rate": float(self._schedule(step - 1)),
                "images_per_second": (step - self._step) * self._config.batch_size / seconds,
                "data_wait_share": (waited_seconds - self._waited_seconds) / seconds,
            }
            self.writer.write_scalars(step, {f"train.{name}": v for name, v in values.items()})
            self.show(step, values)
        self._pending, self._step, self._time = [], step, now
        self._waited_seconds, self._other_seconds = waited_seconds, 0.0

    def filter_finite(self, first: int, collections: Sequence[Any]) -> list[Any]:
        """Drops the metrics of steps that are not finite and logs these steps.

        They have changed no parameter (`step.train_step`), so the state is valid although the host
        detects them a few dispatches later.

        **Arguments:** `collections`: of steps `first`, `first` + 1, ..., on the host.

        **Raises:** `UserError` if more steps are not finite than `config.skip_nonfinite` allows.
        """
        finite, limit = [], self._config.skip_nonfinite
        for step, metrics in enumerate(collections, first):
            if is_finite(metrics):
                finite.append(metrics)
                continue
            self._num_skipped += 1
            loss, norm = metrics.loss.compute(), metrics.gradient_norm.compute()
            problem = f"step {step}: the loss ({loss}) or its gradient (norm {norm}) is not finite"
            if self._num_skipped > limit:
                raise UserError(
                    f"{problem}; the last checkpoint is from before this step. Start a new run "
                    "with a lower learning_rate or optimizer.clip_norm, or resume with "
                    f"--config.skip_nonfinite={max(10, 2 * self._num_skipped)} to skip up to that "
                    "many steps"
                )
            logging.warning(f"{problem}; skipped ({self._num_skipped} of at most {limit})")
        return finite

    def show(self, step: int, values: dict[str, float]) -> None:
        """Shows the most important values on the bar or as one line."""
        names = ("loss", "images_per_second", "learning_rate", "data_wait_share")
        text = ", ".join(f"{name} {values[name]:.4g}" for name in names)
        epoch, total = f"epoch {step / self.intervals.steps_per_epoch:.2f}", self.intervals.total
        if self._bar.disable:
            self.print(f"step {step} of {total} ({100 * step / total:.0f}%), {epoch}: {text}")
        else:
            self._bar.set_description(epoch)
            self._bar.set_postfix_str(text)

    @contextlib.contextmanager
    def time_other_work(self, name: str, step: int) -> Iterator[None]:
        """Times work other than training, logs it, and excludes it from `images_per_second`."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self._other_seconds += seconds
        self.writer.write_scalars(step, {f"time.{name}_seconds": seconds})

    def close(self) -> None:
        self._bar.close()


def is_finite(metrics: Any) -> bool:
    """Whether loss and gradient of one or more updates are finite. Waits for the devices."""
    values = jax.device_get([metrics.loss.total, metrics.gradient_norm.total])
    return bool(np.isfinite(values).all())


def split_steps(collections: list[Any]) -> list[Any]:
    """Splits collections on the host that cover several steps (leading axis) into one per step."""
    return [
        jax.tree.map(lambda array, index=index: array[index], collection)
        for collection in collections
        for index in np.ndindex(np.shape(collection.loss.total))  # () or (K,)
    ]
