"""User errors, which are shown as a message instead of a traceback."""

from __future__ import annotations

import errno
from collections.abc import Sequence


class UserError(Exception):
    """An error that the user can fix: wrong flags, files or configuration.

    `main` prints it as `affect_jax: <message>` to stderr and exits with code 2.

    **Arguments:**

    - `message`: one line: what is wrong, where, and what to do.
    - `problems`: further lines, one per problem, if several problems are reported together.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()):
        self.problems = tuple(problems)
        super().__init__("\n  ".join((message, *self.problems)))


def first_line(error: BaseException, max_length: int = 200) -> str:
    """Returns the first line of an error's message, or the name of its class if it has none."""
    text = str(error).strip()
    return text.splitlines()[0][:max_length] if text else type(error).__name__


_OUT_OF_MEMORY_PHRASES = (
    "out of memory",
    "insufficient memory",
    "memory allocation",
    "resource_exhausted",
    "can't start new thread",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, the system, a decoder or XLA means that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno is not None:  # those of Pillow have no errno
        return error.errno == errno.ENOMEM
    message = "" if isinstance(error, UserError) else str(error).lower()
    return any(phrase in message for phrase in _OUT_OF_MEMORY_PHRASES)
