"""A profile of some training steps, for TensorBoard's profile plugin."""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any

import jax

FIRST_STEP, LAST_STEP = 10, 20
"""Steps of this process that are traced. Earlier steps compile and fill the pipeline."""


class Profiler(contextlib.ExitStack):
    """Traces the steps `FIRST_STEP` to `LAST_STEP`. Leaving the context ends the trace.

    **Arguments:** `folder`: the trace is written to `plugins/profile/TIME/` in it; None: no
    profile.
    """

    def __init__(self, folder: pathlib.Path | None):
        super().__init__()
        self._folder, self._started = folder, False

    def before_dispatch(self, num_steps: int, state: Any) -> None:
        """Starts or stops the trace. Call it before every dispatch.

        **Arguments:**

        - `num_steps`: steps that this process has done.
        - `state`: the result of the latest step; both ends of the trace wait for it.
        """
        if self._folder is None or num_steps < FIRST_STEP - 1:
            return
        if not self._started and num_steps < LAST_STEP:
            jax.block_until_ready(state)
            self.enter_context(jax.profiler.trace(self._folder))
            self._started = True
        elif num_steps >= LAST_STEP:
            jax.block_until_ready(state)
            self.close()
            self._folder = None
