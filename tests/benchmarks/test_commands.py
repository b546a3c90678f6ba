"""Each benchmark runs from end to end at its smallest, and hands over figures of both sides."""

from __future__ import annotations

import json
import pathlib
import shutil

import pytest

from benchmarks import decoders, loading, recording


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
