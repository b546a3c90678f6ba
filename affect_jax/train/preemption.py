"""SIGTERM, SIGHUP and Ctrl-C: the first stops the run after a step and a save, the second at once.

In a run of several processes, SIGTERM belongs to JAX's preemption service, whose handler notifies
all processes; the others are passed on to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

from jax.experimental import multihost_utils

from affect_jax.core import processes


class StopRequest:
    """Context manager that records SIGTERM, SIGHUP and SIGINT instead of ending the process.

    SIGHUP, sent when a terminal closes, stays ignored under `nohup`. `received` is the number of
    the first signal that this process handled itself, or None.
    """

    _num_dispatches = 0  # of all runs of this process: the processes agree on one of these numbers

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> StopRequest:
        handled = [signal.SIGINT]
        if not processes.is_multiprocess():
            handled.append(signal.SIGTERM)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            handled.append(signal.SIGHUP)
        self._previous = {number: signal.signal(number, self._handle) for number in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
        name = signal.Signals(number).name
        # Not `print`: the signal may interrupt another `print`.
        text = f"{name}: finishing the step and saving; send it again to exit at once\n"
        with contextlib.suppress(OSError):  # a closed terminal
            os.write(2, text.encode())
        if processes.is_multiprocess():
            signal.raise_signal(signal.SIGTERM)

    def is_due(self) -> bool:
        """Whether the run ends after this dispatch; the same in every process. Call it after each.

        It does not wait for the devices. JAX's coordination service makes the processes agree,
        within a second or two, on the dispatch that follows the latest one of any process.
        """
        StopRequest._num_dispatches += 1
        if not processes.is_multiprocess():
            return self.received is not None
        return multihost_utils.reached_preemption_sync_point(self._num_dispatches)

    def exit_code(self, *, finished: bool) -> int:
        """0, or 128 + the number of the signal that ended the run; the same in every process.

        **Arguments:** `finished`: whether the run did its last step.
        """
        # A signal may arrive too late for `is_due`, and in one process only.
        number = processes.process_max(self.received or 0)
        if not number and not finished:  # JAX's preemption service handled the signal
            number = int(signal.SIGTERM)
        return 128 + number if number else 0
