"""What the commands that are no experiments do alike: flags, and a reader that goes away."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from affect_jax.errors import UserError


class Parser(argparse.ArgumentParser):
    """Raises `UserError` for what argparse would print with the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags")


def without_reader() -> int:
    """The answer to a `BrokenPipeError`: `... | head` has seen enough, which is no failure.

    **Returns:** the exit code. What is still buffered goes nowhere.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
