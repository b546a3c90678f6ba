"""Command-line helpers: argument parsing, which `main` does with absl, and error handling."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from affect_jax.core.errors import UserError


class ArgumentParser(argparse.ArgumentParser):
    """Raises `UserError` where `argparse` would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags")


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--workdir` (or `--checkpoint`) and `--step`, which select a checkpoint of a run."""
    parser.add_argument(
        "--workdir", "--checkpoint", required=True, metavar="RUN", help="folder of a run"
    )
    parser.add_argument("--step", default="best", help="checkpoint: best, last or a step number")


Main = Callable[[Sequence[str] | None], int]


def handle_cli_errors(main: Main) -> Callable[..., int]:
    """Decorates the `main` of a command, which returns an exit code.

    A `UserError`, or an `OSError` of a file, is printed as one line and returns code 2. A closed
    pipe, as in `... | head`, is not a failure: the command returns code 0 and discards the
    remaining output.
    """

    @functools.wraps(main)
    def wrapper(argv: Sequence[str] | None = None) -> int:
        try:
            exit_code = main(argv)
            sys.stdout.flush()  # raises BrokenPipeError here instead of at interpreter exit
            return exit_code
        except UserError as error:
            print(f"affect_jax: {error}", file=sys.stderr)
            return 2
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            if error.filename is None:
                raise
            print(f"affect_jax: {error.filename}: {error.strerror}", file=sys.stderr)
            return 2

    return wrapper
