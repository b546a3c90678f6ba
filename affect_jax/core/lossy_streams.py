"""Standard streams whose write errors do not end a run."""

from __future__ import annotations

import io
import os


class LossyStream(io.TextIOBase):
    """A text stream that writes to a file descriptor at once and drops what cannot be written.

    A descriptor that is closed is opened on `os.devnull`, so that no other file gets its number.

    **Attributes:** `error`: why text was dropped for the first time, or None.
    """

    encoding = "utf-8"

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self.error: OSError | None = None
        try:
            os.fstat(descriptor)
        except OSError as error:
            self.error = error
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)

    def write(self, text: str) -> int:
        remaining = text.encode(errors="backslashreplace")
        try:
            while remaining:
                remaining = remaining[os.write(self._descriptor, remaining) :]
        except OSError as error:
            self.error = self.error or error
        return len(text)

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True
