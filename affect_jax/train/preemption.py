"""SIGTERM and Ctrl-C: the first stops the run after the step and a save, the second at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType


class StopRequest:
    """Context manager that records SIGTERM and SIGINT instead of ending the process.

    `received` is None, or the number of the first signal.

    **Arguments:**

    - `announce`: called at the first signal, to notify the other processes of the run.
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
        # Not `print`: the signal may interrupt another `print`.
        os.write(
            2, f"{name}: finishing the step and saving; send it again to exit at once\n".encode()
        )
        self._announce()
