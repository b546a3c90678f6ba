"""What the commands that are no experiments do alike: flags, errors, a reader that goes away."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from affect_jax.core.errors import UserError


class Parser(argparse.ArgumentParser):
    """Raises `UserError` for what argparse would print with the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags")


Main = Callable[[Sequence[str] | None], int]


def answering(main: Main) -> Callable[..., int]:
    """Decorator of a command's `main`, which returns an exit code.

    A `UserError` becomes one line and code 2. Where the reader is gone, as in `... | head`, it has
    seen enough, which is no failure: code 0, and what is still buffered goes nowhere.
    """

    @functools.wraps(main)
    def answer(arguments: Sequence[str] | None = None) -> int:
        try:
            code = main(arguments)
            sys.stdout.flush()  # a reader that is gone shows here, not at the end of the process
            return code
        except UserError as error:
            print(f"affect_jax: {error}", file=sys.stderr)
            return 2
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    return answer
