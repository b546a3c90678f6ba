"""Command-line helpers: argument parsing, which `main` does with absl, and error handling."""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import pathlib
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from affect_jax.core.errors import UserError, first_line, is_out_of_memory
from affect_jax.core.paths import READY_MODEL

DEBUG_FLAG = "--debug"


class ArgumentParser(argparse.ArgumentParser):
    """Parser of a command; raises `UserError` where `argparse` would print its usage and exit.

    It has the flag `--debug`, which `handle_cli_errors` reads.
    """

    def __init__(self, command: str, description: str):
        super().__init__(
            prog=f"python -m affect_jax.{command}", description=description, allow_abbrev=False
        )
        self.add_argument(DEBUG_FLAG, action="store_true", help="print the traceback of an error")

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags")


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--workdir` (or `--checkpoint`) and `--step`, which select a checkpoint of a run."""
    parser.add_argument(
        "--workdir",
        "--checkpoint",
        metavar="RUN",
        help="folder of a run, or of its export as safetensors; default: the model in the package",
    )
    parser.add_argument("--step", default="best", help="checkpoint: best, last or a step number")


def select_run(args: argparse.Namespace) -> str:
    """Returns the run that the flags of `add_run_flags` select; prints a line if it is `ready`."""
    if args.workdir not in (None, READY_MODEL):
        return args.workdir
    flag = f"--workdir={READY_MODEL}" if args.workdir else "no --workdir"
    use = "using the model in the package, for trying out only (docs/ready_model.md)"
    print(f"{flag}: {use}", file=sys.stderr)
    return READY_MODEL


def output_folder(run: str) -> pathlib.Path:
    """Returns the folder for what a command writes about a run: for `ready` the current one."""
    return pathlib.Path() if run == READY_MODEL else pathlib.Path(run)


Main = Callable[[Sequence[str]], int]


def handle_cli_errors(main: Main) -> Callable[..., int]:
    """Decorates the `main` of a command, which receives the flags and returns an exit code.

    The decorated function takes the flags from `sys.argv` by default, expands `~` in them, which
    shells do not in `--flag=~/x`, and turns every error into one line and an exit code:

    | error | exit code |
    |---|---|
    | expected: a `UserError`, a file that cannot be used, memory that ran out, no device | 2 |
    | Ctrl-C | 130 |
    | a closed pipe, as in `... \\| head`: the remaining output is discarded | 0 |
    | any other; its traceback is in the file that the line names | 1 |
    """

    @functools.wraps(main)
    def wrapper(argv: Sequence[str] | None = None) -> int:
        argv = [_expand_home(word) for word in (sys.argv[1:] if argv is None else argv)]
        if isinstance(sys.stdout, io.TextIOWrapper):  # any text can be printed, in any locale
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        try:
            exit_code = main(argv)
            if sys.stdout is not None:
                sys.stdout.flush()  # raises BrokenPipeError here instead of at interpreter exit
            return exit_code
        except BrokenPipeError:
            _discard_stdout()
            return 0
        except KeyboardInterrupt:
            message, exit_code = "interrupted", 130
        except Exception as error:
            if DEBUG_FLAG in argv:
                traceback.print_exc()
            expected = _describe_expected_error(error)
            message = expected or _describe_unexpected_error(error)
            exit_code = 2 if expected else 1
        with contextlib.suppress(OSError):  # the exit code remains
            print(f"affect_jax: {message}", file=sys.stderr, flush=True)
        return exit_code

    return wrapper


def _describe_expected_error(error: Exception) -> str | None:
    """Returns the message of an error that a user can cause; None for any other."""
    if isinstance(error, UserError):
        return str(error)
    if is_out_of_memory(error):
        return (
            f"Out of memory ({first_line(error)}). For training, set data.cache='none' or lower "
            "data.num_workers and rerun the same command to resume; a smaller batch_size needs a "
            "new --workdir."
        )
    if isinstance(error, OSError) and error.strerror:
        if error.filename is not None:
            return f"{os.fspath(error.filename)}: {error.strerror}"
        _discard_stdout()  # its buffer may hold what could not be written
        return f"the output cannot be written: {error.strerror}"
    # JAX raises a RuntimeError for a platform that fails, an AssertionError for one without plugin.
    frames = traceback.extract_tb(error.__traceback__)
    if "Unable to initialize backend" in str(error) or (
        frames and os.path.basename(frames[-1].filename) == "xla_bridge.py"
    ):
        return (
            f"JAX has no device ({first_line(error)}); set JAX_PLATFORMS to a platform of this "
            "machine, such as cpu"
        )
    return None


def _describe_unexpected_error(error: Exception) -> str:
    message = f"{type(error).__name__}: {first_line(error)}"
    try:
        descriptor, path = tempfile.mkstemp(prefix="affect_jax-", suffix="-traceback.txt")
        with open(descriptor, "w", errors="backslashreplace") as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return f"{message}; {DEBUG_FLAG} prints the traceback"
    return f"{message}; please report it with its traceback, {path}"


def _discard_stdout() -> None:
    """Connects stdout to nothing, so that the interpreter's last flush does not fail."""
    with contextlib.suppress(OSError, AttributeError):  # not a file, as in tests, or closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _expand_home(word: str) -> str:
    """`--workdir=~/x` -> `--workdir=/home/name/x`."""
    return re.sub(r"^(--?[\w.]+=)?(~.*)", lambda m: (m[1] or "") + os.path.expanduser(m[2]), word)
