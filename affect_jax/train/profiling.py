"""A profile of some training steps, for TensorBoard's profile plugin."""

from __future__ import annotations

import pathlib
from typing import Any

import jax

FIRST_STEP, LAST_STEP = 10, 20
"""Steps of this process that are traced. Earlier steps compile and fill the pipeline."""


class Profiler:
    """Traces the steps `FIRST_STEP` to `LAST_STEP`. Leaving the context ends the trace.

    With several steps per dispatch, the trace starts and ends between dispatches.

    **Arguments:**

    - `folder`: the trace is written to `plugins/profile/TIME/` in it; None: no profile.
    """

    def __init__(self, folder: pathlib.Path | None):
        self._folder, self._tracing = folder, False

    def before_dispatch(self, num_steps: int, state: Any) -> None:
        """Starts or stops the trace. Call it before every dispatch.

        **Arguments:**

        - `num_steps`: steps that this process has done.
        - `state`: the result of the latest step; both ends of the trace wait for it.
        """
        if self._folder is None:
            return
        if not self._tracing and FIRST_STEP - 1 <= num_steps < LAST_STEP:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder)
            self._tracing = True
        elif self._tracing and num_steps >= LAST_STEP:
            jax.block_until_ready(state)
            self._stop()

    def _stop(self) -> None:
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing, self._folder = False, None

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
