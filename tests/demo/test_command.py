"""The command: what is wrong in one line; and that it serves, and ends, as a program of its own."""

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
from tests.trained_runs import settings, write


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--checkpoint=nothing"], "nothing: no run here"),
        (["--checkpoint=nothing", "--port=70000"], "--port=70000"),
        (["--checkpoint=nothing", "--host=0.0.0.0"], "unrecognized arguments: --host=0.0.0.0"),
        ([], "required: --checkpoint"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_2(arguments, message, tmp_path, monkeypatch, capsys):
    pytest.importorskip("uvicorn")
    monkeypatch.chdir(tmp_path)
    assert command.main([*arguments, *([] if "--port" in str(arguments) else ["--port=0"])]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and message in shown.err


def test_a_port_that_is_taken_is_told(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert command.main(["--checkpoint=nothing", f"--port={port}"]) == 2
    assert f"--port={port}: Address already in use; choose another one" in capsys.readouterr().err


def test_without_its_packages_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert command.main(["--checkpoint=nothing", "--port=0"]) == 2
    assert "the page needs uvicorn; pip install 'affect_jax[demo]'" in capsys.readouterr().err


def test_the_command_serves_this_machine_alone_until_it_is_interrupted(tmp_path):
    pytest.importorskip("uvicorn")
    write(tmp_path / "run", settings())
    root = pathlib.Path(command.__file__).parents[2]
    line = [
        sys.executable,
        "-m",
        "affect_jax.demo",
        "--checkpoint=run",
        "--detector=none",
        "--port=0",
    ]
    process = subprocess.Popen(
        line, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = re.fullmatch(
            r"http://127\.0\.0\.1:(\d+) \(Ctrl-C ends it\)\n", process.stdout.readline()
        )
        assert told
        connection = http.client.HTTPConnection("127.0.0.1", int(told[1]), timeout=60)
        connection.request("GET", "/")
        assert b"What the network sees" in connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")
    finally:
        process.kill()
