"""Each benchmark runs from end to end at its smallest, and hands over figures of both sides."""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import types

import pytest

from benchmarks import (
    decoders,
    epoch,
    gpu,
    growth,
    loading,
    operations,
    preparation,
    recording,
    rendered_difficulty,
    rendering,
    scores,
    start,
    step,
)


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
    limits = {preparation.LIMIT, preparation.FASTER}
    assert set(kept["runs"]["wall"]) == {*limits, "affect_jax, 1 worker"}


def test_scores(folder):
    kept = ran(scores.main, folder, "scores")
    assert list(kept["runs"]) == ["equal, 400"] and len(kept["table"]) == 1
    assert float(kept["table"][0]["largest difference"]) < 1e-9


def test_rendering(folder):
    kept = ran(rendering.main, folder, "rendering")
    assert len(kept["runs"]["processor"]) == len(kept["table"]) == 4
    assert all(rate > 0 for rates in kept["runs"]["wall"].values() for rate in rates)


def test_rendered_difficulty(folder, tmp_path):
    data = ("--data_dir", str(tmp_path / "data"))
    kept = ran(rendered_difficulty.main, folder, "rendered_difficulty", *data)
    assert [run["pixels"] for run in kept["runs"]] == ["grey", "colour"]
    assert all(0 <= run["accuracy"] <= 1 for run in kept["runs"])
    assert "data_dir" not in kept["options"]


def test_operations(folder):
    pytest.importorskip("torch")
    kept = ran(operations.main, folder, "operations")
    assert [row["operations"] for row in kept["table"]] == [*operations.KINDS, "sum"]
    total = {row["operations"]: row for row in kept["table"]}
    for side in (operations.OURS, operations.PEER):
        found = [total[kind][side] for kind in operations.KINDS if kind not in operations.PARTS]
        assert total["sum"][side] == pytest.approx(sum(found)) and found[0] > 0
    parts = [total[part][operations.OURS] for part in operations.PARTS]
    assert total[operations.BACKWARD][operations.OURS] == pytest.approx(sum(parts))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('%c.1 = f32[64,3,3,64]{3,2,1,0} convolution(%a, %b)', operations.WEIGHTS),
        ('%c.2 = f32[8,7,7,64]{3,2,1,0} convolution(%a), metadata={op_name="jvp(M)/c"}', "FORWARD"),
        ('%c.3 = f32[8,7,7,64]{3,2,1,0} convolution(%a), metadata={op_name="transpose(jvp(M))/c"}',
         "INPUTS"),
        ('ROOT %f.1 = f32[8,8]{1,0} fusion(%a), metadata={op_name="jvp(M)/dot_general"}', "DENSE"),
        ('%d.1 = f32[8,8]{1,0} fusion(%a), metadata={op_name="jvp(M)/c/winograd/dot_general"}',
         "FORWARD"),
        ('%d.2 = f32[8,8]{1,0} dot(%a), metadata={op_name="transpose(jvp(M))/winograd/dot"}',
         "FEWER"),
        ('%r = f32[64]{0} fusion(%a), metadata={op_name="jvp(M)/stem/norm/reduce_sum"}', "NORM"),
        ('%t.3 = f32[8,8]{0,1} fusion(%a), metadata={op_name="max_pool/add"}', "POOL"),
        ('%d.3 = f32[8,8]{1,0} dot(%a), metadata={op_name="jvp(M)/windows/dot_general"}',
         "FORWARD"),
        ('%d.4 = f32[8,8]{1,0} dot(%a), metadata={op_name="transpose(M)/windows/dot_general"}',
         "INPUTS"),
        ('%d.5 = f32[576,64]{1,0} dot(%a), metadata={op_name="transpose(M)/windows/dot_general"}',
         "WEIGHTS"),
        ("%transpose_copy_fusion.3 = f32[8,8]{0,1} fusion(%a)", "MOVED"),
        ("%add.3 = f32[8,8]{0,1} add(%a, %b)", "REST"),
    ],
)  # fmt: skip
def test_an_operation_has_a_kind(line, kind):
    found = operations.kinds_of(line, {(3, 3, 64, 64)})
    assert list(found.values()) == [getattr(operations, kind, kind)]


def test_start(folder):
    kept = ran(start.main, folder, "start")
    assert set(kept["runs"]["wall"]) == {start.JAX, start.HELP}


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


def test_step(folder, tiny):
    pytest.importorskip("torch").set_num_threads(1)  # else its threads wait for one another
    kept = ran(step.main, folder, "step")
    assert list(kept["runs"]) == ["alexnet, float32, 4, train", "alexnet, float32, 4, eval"]
    for rates in kept["runs"].values():
        assert set(rates) == {step.OURS, step.EAGER} and min(map(min, rates.values())) > 0


def test_gpu(folder, tiny):
    pytest.importorskip("torch").set_num_threads(1)
    kept = ran(gpu.main, folder, "gpu")
    parts = [line["part"] for line in kept["runs"]]
    assert parts == ["device", "schedule", "device", "peak", "steps", "steps", "device", "flags"]
    wanted = {"what", "network", "type", "batch", gpu.OURS}
    *rows, flag = kept["table"]
    assert all(wanted | {gpu.EAGER} <= set(row) for row in rows) and len(rows) == 3
    assert not any("to no flag" in row for row in rows)
    assert wanted | {"to no flag"} <= set(flag) and "fast_math" in flag["what"]
    assert min(map(min, kept["runs"][-1]["rates"].values())) > 0


def test_epoch(folder, tiny):
    """Both sides' time is where it went, to the last second."""
    pytest.importorskip("torch").set_num_threads(1)
    kept = ran(epoch.main, folder, "epoch", "--passes", "2", "--num_validation", "5")
    assert list(kept["runs"]) == ["affect_jax, cache none", epoch.PEER]
    assert "an epoch of 2 x 16 faces" in kept["what"]
    for (seconds,) in kept["runs"].values():
        parts = [seconds[part] for part in epoch.PARTS]
        assert sum(parts) == pytest.approx(seconds["all"]) and min(parts[:-1]) >= 0
        assert seconds["step"] > 0 and seconds["evaluation"] > 0 and seconds["checkpoint"] > 0
    assert all(" (" not in row["contender"] for row in kept["table"])


def test_the_time_of_a_run_is_taken_apart(tmp_path):
    """Written by hand: 10 faces a step, the first epoch ends with step 2 at second 100."""
    lines = [
        {"step": 2, "time": 90, "train.images_per_second": 1.0, "train.data_wait_share": 0.9},
        {"step": 2, "time": 95, "time.evaluate_seconds": 5.0},
        {"step": 2, "time": 100, "time.save_seconds": 5.0},
        {"step": 3, "time": 110, "train.images_per_second": 1.0, "train.data_wait_share": 0.25},
        {"step": 4, "time": 115, "train.images_per_second": 2.0, "train.data_wait_share": 0.0},
        {"step": 4, "time": 119, "time.evaluate_seconds": 3.5},
        {"step": 4, "time": 121, "time.save_seconds": 1.5},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert epoch.split_of(tmp_path / "metrics.jsonl", 10, end=122) == {
        "waiting": 2.5,
        "step": 7.5 + 5,
        "evaluation": 3.5,
        "checkpoint": 1.5,
        "other": 2.0,
        "all": 22,
    }


def test_growth(folder, tiny, monkeypatch):
    """Its processes are calls here: to start them takes longer than what they do."""

    def call(command: list[str], **_: object) -> types.SimpleNamespace:
        assert command[1:3] == ["-m", "benchmarks.growth"]
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            growth.main(command[3:])
        return types.SimpleNamespace(stdout=told.getvalue())

    monkeypatch.setattr(growth.subprocess, "run", call)
    kept = ran(growth.main, folder, "growth")
    (run,) = kept["runs"]["24"]
    assert run["seconds_a_thousand_faces"] > 0 and run["peak_mib"] > 100
    assert run["processor_seconds_a_thousand_faces"] != 0  # of so few steps noise, below 0 too
    ratios = {key: cell for key, cell in kept["table"][0].items() if "to the smallest" in key}
    assert set(ratios.values()) == {"1.00"} and len(ratios) == 2
