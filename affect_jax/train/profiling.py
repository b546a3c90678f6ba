"""A profile of some training steps, for TensorBoard's profile plugin."""

from __future__ import annotations

import pathlib
from typing import Any

import jax

from affect_jax.config import Config
from affect_jax.core import parallel
from affect_jax.run.workdir import Workdir

FIRST, LAST = 10, 20
"""Steps of this process that are profiled; those before compile and fill the pipeline."""


class Profiler:
    """Traces steps `FIRST` to `LAST` of the process. A context manager: leaving it ends a trace.

    **Arguments:**

    - `folder`: gets `plugins/profile/TIME/`; None: no profile.
    """

    def __init__(self, folder: pathlib.Path | None):
        self._folder, self._steps, self._tracing = folder, 0, False

    @classmethod
    def of(cls, config: Config, workdir: Workdir) -> Profiler:
        """The profiler of `config.profile`: process 0 writes into the run's TensorBoard folder."""
        enabled = config.profile and parallel.is_main()
        return cls(workdir.path / "tensorboard" if enabled else None)

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def step(self, count: int, metrics: Any) -> None:
        """Call after every dispatch.

        **Arguments:**

        - `count`: steps that were dispatched.
        - `metrics`: their result; waited for at both ends of the trace.
        """
        self._steps += count
        if self._folder is None:
            return
        if not self._tracing and self._steps >= FIRST:
            jax.block_until_ready(metrics)
            jax.profiler.start_trace(self._folder)
            self._tracing = True
        elif self._tracing and self._steps >= LAST:
            jax.block_until_ready(metrics)
            self._stop()

    def _stop(self) -> None:
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing, self._folder = False, None
