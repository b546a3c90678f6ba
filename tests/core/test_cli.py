"""Commands end with one line for an error, expected or not, and with its exit code."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile

import pytest

from affect_jax.core import cli
from affect_jax.core.errors import UserError


def run(error: BaseException, *flags: str) -> int:
    @cli.handle_cli_errors
    def main(argv) -> int:
        raise error

    return main(flags)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("--out is missing"), "--out is missing"),
        (OSError(13, "Permission denied", "runs/x"), "runs/x: Permission denied"),
        (
            OSError(28, "No space left on device"),
            "the output cannot be written: No space left on device",
        ),
        (
            RuntimeError("Unable to initialize backend 'cuda': no GPU"),
            "JAX has no device (Unable to initialize backend 'cuda': no GPU); set JAX_PLATFORMS to "
            "a platform of this machine, such as cpu",
        ),
    ],
)
def test_expected_error_is_one_line_and_code_2(capsys, error, line):
    assert run(error) == 2
    assert capsys.readouterr().err == f"affect_jax: {line}\n"


def test_platform_without_plugin_is_one_line_and_code_2(capsys):
    """JAX fails an assertion then."""

    @cli.handle_cli_errors
    def main(argv) -> int:
        exec(compile("assert False", "jax/_src/xla_bridge.py", "exec"))
        return 0

    assert main([]) == 2
    assert "set JAX_PLATFORMS to a platform of this machine" in capsys.readouterr().err


def test_missing_memory_is_one_line_and_code_2(capsys):
    assert run(MemoryError("Unable to allocate 9 GiB")) == 2
    assert capsys.readouterr().err.startswith(
        "affect_jax: Out of memory (Unable to allocate 9 GiB)"
    )


def test_unexpected_error_is_one_line_with_the_file_of_its_traceback(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run(KeyError("names\nof two lines")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    path = pathlib.Path(line.split()[-1])
    assert line.startswith("affect_jax: KeyError: ") and path.parent == tmp_path
    assert "Traceback (most recent call last)" in path.read_text()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert run(KeyError("name")) == 1
    assert capsys.readouterr().err == "affect_jax: KeyError: 'name'; --debug prints the traceback\n"


def test_debug_prints_the_traceback(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run(UserError("--out is missing"), "--debug") == 2
    text = capsys.readouterr().err
    assert text.startswith("Traceback") and text.endswith("affect_jax: --out is missing\n")


def test_interruption_is_one_line_and_code_130(capsys):
    assert run(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "affect_jax: interrupted\n"


def test_closed_pipe_is_no_failure(tmp_path, monkeypatch):
    with (tmp_path / "stdout").open("w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert run(BrokenPipeError()) == 0


@pytest.mark.parametrize(
    ("word", "expanded"),
    [
        ("--workdir=~/x", "--workdir=HOME/x"),
        ("--config.data.data_dir=~/x=~/y", "--config.data.data_dir=HOME/x=~/y"),
        ("~", "HOME"),
        ("a~/x", "a~/x"),
        ("--name=a~/x", "--name=a~/x"),
    ],
)
def test_home_is_expanded_in_flags(monkeypatch, word, expanded):
    monkeypatch.setenv("HOME", "/home/name")
    received = []

    @cli.handle_cli_errors
    def main(argv) -> int:
        received.extend(argv)
        return 0

    assert main([word]) == 0
    assert received == [expanded.replace("HOME", "/home/name")]


def test_any_text_can_be_printed(capfdbinary, monkeypatch):
    @cli.handle_cli_errors
    def main(argv) -> int:
        print("caf\xe9 \udce9")
        return 0

    monkeypatch.setattr(sys, "stdout", open(1, "w", encoding="ascii", closefd=False))
    assert main([]) == 0
    assert capfdbinary.readouterr().out == "caf\xe9 \\udce9\n".encode()


COMMANDS = ("main", "evaluate", "report", "report.tables", "predict", "export", "demo", "facs")


@pytest.mark.slow
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", "| head -0"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_a_traceback_if_stdout_cannot_be_written(command, redirection):
    script = f'"{sys.executable}" -m affect_jax.{command} --help {redirection}'
    result = subprocess.run(["bash", "-c", script], stderr=subprocess.PIPE, text=True)
    assert "Traceback" not in result.stderr and "Exception ignored" not in result.stderr


def test_use_of_the_model_in_the_package_is_printed(capsys):
    parser = cli.ArgumentParser("predict", "")
    cli.add_run_flags(parser)
    assert cli.select_run(parser.parse_args([])) == "ready"
    assert capsys.readouterr().err.startswith("no --workdir: using the model in the package")
    # A run may be in a folder of this name.
    assert cli.select_run(parser.parse_args(["--workdir=ready"])) == "ready"
    assert capsys.readouterr().err.startswith("--workdir=ready: using the model in the package")
    assert cli.select_run(parser.parse_args(["--workdir=./ready"])) == "./ready"
    # An unset variable in --workdir=$RUN
    assert cli.select_run(parser.parse_args(["--workdir="])) == "" == capsys.readouterr().err
