"""Command `demo`: error messages, and the server as a subprocess."""

from __future__ import annotations

import http.client
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest

from affect_jax.demo import __main__ as command
from tests.trained_runs import create_config, write_run


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--checkpoint=nothing"], "nothing: contains no run"),
        (["--checkpoint=nothing", "--port=70000"], "--port=70000"),
        (["--checkpoint=nothing", "--host=0.0.0.0"], "unrecognized arguments: --host=0.0.0.0"),
    ],
)
def test_invalid_arguments_give_one_line_and_exit_code_2(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert command.main([*arguments, *([] if "--port" in str(arguments) else ["--port=0"])]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and message in captured.err


def test_port_in_use_is_an_error(capsys):
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        port = occupied.getsockname()[1]
        assert command.main(["--checkpoint=nothing", f"--port={port}"]) == 2
    message = f"--port={port}: [Errno 98] Address already in use"
    assert message in capsys.readouterr().err


def test_subprocess_serves_localhost_until_interrupted(tmp_path):
    write_run(tmp_path / "run", create_config())
    root = pathlib.Path(command.__file__).parents[2]
    arguments = [
        sys.executable,
        "-m",
        "affect_jax.demo",
        "--checkpoint=run",
        "--step=last",
        "--detector=none",
        "--port=0",
    ]
    process = subprocess.Popen(
        arguments, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = re.fullmatch(
            r"http://127\.0\.0\.1:(\d+) \(press Ctrl-C to stop\)\n", process.stdout.readline()
        )
        assert address
        connection = http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=60)
        connection.request("GET", "/")
        assert b"Facial expression prediction" in connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")
    finally:
        process.kill()
