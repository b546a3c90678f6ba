"""The one exception that is shown to a user as a message, not as a traceback."""

from __future__ import annotations

import errno
from collections.abc import Sequence


class UserError(Exception):
    """Something the user can mend: bad flags, bad files, bad configuration.

    `main` prints it as `affect_jax: <message>` on stderr and exits with code 2.

    **Arguments:**

    - `message`: one line that says what is wrong, where, and what to do.
    - `problems`: further lines, one a problem, when several are found at once.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()):
        self.problems = tuple(problems)
        super().__init__("\n  ".join((message, *self.problems)))


def first_line(error: BaseException, length: int = 200) -> str:
    """What an error of a library says, as part of a line: its first, else its kind."""
    text = str(error).strip()
    return text.splitlines()[0][:length] if text else type(error).__name__


_NO_MEMORY = (
    "out of memory",
    "insufficient memory",
    "memory allocation",
    "no memory is left",
    "resource_exhausted",
)


def for_want_of_memory(error: BaseException) -> bool:
    """Whether memory was short: Python, the system, decoders and XLA each say it in their way."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno is not None:  # Pillow's own have none
        return error.errno == errno.ENOMEM
    said = "" if isinstance(error, UserError) else str(error).lower()
    return any(words in said for words in _NO_MEMORY)
