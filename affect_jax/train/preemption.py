"""SIGTERM and Ctrl-C: finish the step, save, leave; a second one leaves at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType


class StopRequest:
    """Context in which the two signals are remembered instead of ending the process.

    `received` is None, or the number of the first signal.

    **Arguments:**

    - `announce`: called at the first signal; it tells the run's other processes.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, announce: Callable[[], None] = lambda: None) -> None:
        self._announce = announce
        self.received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in self.SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
        name = signal.Signals(number).name
        # Not `print`: the signal may have come in the middle of another one.
        os.write(2, f"{name}: finishing the step and saving; again to leave at once\n".encode())
        self._announce()
