"""Each benchmark runs from end to end at its smallest, and hands over figures of both sides."""

from __future__ import annotations

import json
import pathlib
import shutil

import pytest

from benchmarks import decoders, loading, preparation, recording, start, step


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """A copy of the page of benchmarks, whose tables may be replaced."""
    shutil.copy(recording.FOLDER / "README.md", tmp_path)
    return tmp_path


def ran(main, folder: pathlib.Path, name: str, *arguments: str) -> dict:
    """What a quick run kept; its table is on the page."""
    main(["--quick", "--folder", str(folder), *arguments])
    kept = json.loads((folder / "results" / f"{name}.json").read_text())
    text = (folder / "README.md").read_text()
    assert recording.table(kept["table"]) in text
    return kept


def test_decoders(folder):
    kept = ran(decoders.main, folder, "decoders")
    assert {decoders.OURS, "OpenCV", "Pillow"} <= set(kept["runs"])
    assert all(rate > 0 for rates in kept["runs"].values() for rate in rates)


def test_loading(folder):
    kept = ran(loading.main, folder, "loading")
    assert {loading.LIMIT, "affect_jax, no workers", "affect_jax, cache='host'"} <= set(
        kept["runs"]
    )


def test_preparation(folder):
    kept = ran(preparation.main, folder, "preparation")
    assert set(kept["runs"]["wall"]) == {preparation.LIMIT, "affect_jax, 1 worker"}


def test_start(folder):
    kept = ran(start.main, folder, "start")
    assert {start.JAX, start.IMPORTS, start.HELP} <= set(kept["runs"]["wall"])


def test_the_first_step_is_waited_for(tmp_path):
    """By the line that the command writes after it, of the network that the config names."""
    assert start.network_of(["--config=configs/alexnet_weighted.py", "--config.batch_size=7"]) == {
        "name": "alexnet",
        "crop": 224,
        "batch": 7,
    }
    code = "import sys; print('step 1 of 9', file=sys.stderr, flush=True); sys.stdin.read()"
    start.wait_for(["-c", code], until="step 1 of")
    with pytest.raises(RuntimeError, match="ended with 0: not yet"):
        start.wait_for(["-c", "import sys; sys.stderr.write('not yet')"], until="step 1 of")
    with pytest.raises(RuntimeError, match="ended with 3"):
        start.wait_for(["-c", "raise SystemExit(3)"])


def test_step(folder):
    pytest.importorskip("torch").set_num_threads(1)  # else its threads wait for one another
    kept = ran(step.main, folder, "step")
    assert list(kept["runs"]) == ["alexnet, float32, 4, train", "alexnet, float32, 4, eval"]
    for rates in kept["runs"].values():
        assert set(rates) == {step.OURS, step.EAGER} and min(map(min, rates.values())) > 0
