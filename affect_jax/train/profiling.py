"""A profile of some training steps, for TensorBoard's profile plugin."""

from __future__ import annotations

import pathlib
from typing import Any

import jax

from affect_jax.config import Config
from affect_jax.core import parallel
from affect_jax.run.workdir import Workdir

FIRST_STEP, LAST_STEP = 10, 20
"""Steps of this process that bound the trace. Earlier steps compile and fill the pipeline."""


class Profiler:
    """Traces the steps after `FIRST_STEP` up to `LAST_STEP`. Leaving the context ends the trace.

    **Arguments:**

    - `folder`: the trace is written to `plugins/profile/TIME/` in it; None: no profile.
    """

    def __init__(self, folder: pathlib.Path | None):
        self._folder, self._steps, self._tracing = folder, 0, False

    @classmethod
    def from_config(cls, config: Config, workdir: Workdir) -> Profiler:
        """Creates the profiler of `config.profile`; process 0 writes to `workdir/tensorboard`."""
        enabled = config.profile and parallel.is_main()
        return cls(workdir.path / "tensorboard" if enabled else None)

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def step(self, count: int, metrics: Any) -> None:
        """Counts steps and starts or stops the trace. Call it after every dispatch.

        **Arguments:**

        - `count`: number of steps in the dispatch.
        - `metrics`: result of the dispatch; both ends of the trace wait for it.
        """
        self._steps += count
        if self._folder is None:
            return
        if not self._tracing and self._steps >= FIRST_STEP:
            jax.block_until_ready(metrics)
            jax.profiler.start_trace(self._folder)
            self._tracing = True
        elif self._tracing and self._steps >= LAST_STEP:
            jax.block_until_ready(metrics)
            self._stop()

    def _stop(self) -> None:
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing, self._folder = False, None
