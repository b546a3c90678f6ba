"""Each benchmark runs end to end with `--quick` and records all contenders."""

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
    harness,
    loading,
    operations,
    preparation,
    scores,
    start,
    step,
)


def run_quick(main, folder: pathlib.Path, name: str, *argv: str) -> dict:
    """Runs a benchmark and returns its result file; checks that its table is in README.md."""
    main(["--quick", "--folder", str(folder), *argv])
    result = json.loads((folder / "results" / f"{name}.json").read_text())
    text = (folder / "README.md").read_text()
    assert harness.markdown_table(result["table"]) in text
    return result


def test_decoders(folder):
    result = run_quick(decoders.main, folder, "decoders")
    assert {decoders.OURS, "OpenCV", "Pillow"} <= set(result["runs"])
    assert all(rate > 0 for rates in result["runs"].values() for rate in rates)


def test_loading(folder):
    result = run_quick(loading.main, folder, "loading")
    assert {loading.LIMIT, "affect_jax, no workers", "affect_jax, cache='host'"} <= set(
        result["runs"]
    )


def test_preparation(folder):
    result = run_quick(preparation.main, folder, "preparation")
    limits = {preparation.LIMIT, preparation.FASTER}
    assert set(result["runs"]["wall"]) == {*limits, "affect_jax, 1 worker"}


def test_scores(folder):
    result = run_quick(scores.main, folder, "scores")
    assert list(result["runs"]) == ["equal, 400"] and len(result["table"]) == 1
    assert float(result["table"][0]["largest difference"]) < 1e-9


def test_operations(folder):
    pytest.importorskip("torch")
    result = run_quick(operations.main, folder, "operations")
    assert [row["operations"] for row in result["table"]] == [*operations.KINDS, "sum"]
    rows = {row["operations"]: row for row in result["table"]}
    for side in (operations.OURS, operations.PEER):
        times = [rows[kind][side] for kind in operations.KINDS if kind not in operations.PARTS]
        assert rows["sum"][side] == pytest.approx(sum(times)) and times[0] > 0
    parts = [rows[part][operations.OURS] for part in operations.PARTS]
    assert rows[operations.BACKWARD][operations.OURS] == pytest.approx(sum(parts))


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
         "WINOGRAD"),
        ('%r = f32[64]{0} fusion(%a), metadata={op_name="jvp(M)/stem/norm/reduce_sum"}', "NORM"),
        ('%t.3 = f32[8,8]{0,1} fusion(%a), metadata={op_name="max_pool/add"}', "POOL"),
        ('%d.3 = f32[8,8]{1,0} dot(%a), metadata={op_name="jvp(M)/im2col/dot_general"}',
         "FORWARD"),
        ('%d.4 = f32[8,8]{1,0} dot(%a), metadata={op_name="transpose(M)/im2col/dot_general"}',
         "INPUTS"),
        ('%d.5 = f32[576,64]{1,0} dot(%a), metadata={op_name="transpose(M)/im2col/dot_general"}',
         "WEIGHTS"),
        ("%transpose_copy_fusion.3 = f32[8,8]{0,1} fusion(%a)", "COPIES"),
        ("%add.3 = f32[8,8]{0,1} add(%a, %b)", "OTHER"),
    ],
)  # fmt: skip
def test_instructions_are_classified(line, kind):
    kinds = operations.instruction_kinds(line, {(3, 3, 64, 64)})
    assert list(kinds.values()) == [getattr(operations, kind, kind)]


def test_start(folder):
    result = run_quick(start.main, folder, "start")
    assert set(result["runs"]["wall"]) == {start.JAX, start.HELP}


def test_start_waits_for_the_first_step():
    """The log line marks the first step; the config selects the network of PyTorch."""
    assert start.read_network(
        ["--config=configs/alexnet_weighted.py", "--config.batch_size=7"]
    ) == {
        "name": "alexnet",
        "crop": 224,
        "batch": 7,
    }
    code = "import sys; print('step 1 of 9', file=sys.stderr, flush=True); sys.stdin.read()"
    start.wait_for(["-c", code], until="step 1 of")
    with pytest.raises(RuntimeError, match="ended with exit code 0: not yet"):
        start.wait_for(["-c", "import sys; sys.stderr.write('not yet')"], until="step 1 of")
    with pytest.raises(RuntimeError, match="ended with exit code 3"):
        start.wait_for(["-c", "raise SystemExit(3)"])


def test_step(folder, tiny_networks):
    pytest.importorskip("torch").set_num_threads(1)  # otherwise its threads wait for each other
    result = run_quick(step.main, folder, "step")
    assert list(result["runs"]) == ["alexnet, float32, 4, train", "alexnet, float32, 4, eval"]
    for rates in result["runs"].values():
        assert set(rates) == {step.OURS, step.EAGER} and min(map(min, rates.values())) > 0


def test_gpu(folder, tiny_networks):
    pytest.importorskip("torch").set_num_threads(1)
    result = run_quick(gpu.main, folder, "gpu")
    parts = [line["part"] for line in result["runs"]]
    assert parts == [
        *("device", "schedule"),
        *("device", *["switches"] * len(gpu.SWITCHES)),
        *("device", "peak", "steps", "steps"),
        *("device", "flags"),
    ]
    columns = {"what", "network", "type", "batch", gpu.OURS}
    rows, (*switches, flag) = result["table"][:3], result["table"][3:]
    assert all(columns | {gpu.EAGER} <= set(row) for row in rows)
    assert not any({"to no flag", "to default"} & set(row) for row in rows)
    assert [row["what"].split()[-1] for row in switches] == list(gpu.SWITCHES)
    assert all(columns | {"default", "to default"} == set(row) for row in switches)
    assert columns | {"to no flag"} <= set(flag) and "fast_math" in flag["what"]
    assert min(map(min, result["runs"][-1]["rates"].values())) > 0


def test_epoch(folder, tiny_networks):
    """The parts of both sides add up to the whole time."""
    pytest.importorskip("torch").set_num_threads(1)
    result = run_quick(epoch.main, folder, "epoch", "--passes", "2", "--num_validation", "5")
    assert list(result["runs"]) == ["affect_jax, cache none", epoch.PEER]
    assert "an epoch of 2 x 16 faces" in result["what"]
    for (seconds,) in result["runs"].values():
        parts = [seconds[part] for part in epoch.PARTS]
        assert sum(parts) == pytest.approx(seconds["all"]) and min(parts[:-1]) >= 0
        assert seconds["step"] > 0 and seconds["evaluation"] > 0 and seconds["checkpoint"] > 0
    assert all(" (" not in row["contender"] for row in result["table"])


def test_split_seconds_of_a_log(tmp_path):
    """A log by hand: 10 faces a step, the first epoch ends with step 2 at second 100."""
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
    assert epoch.split_seconds(tmp_path / "metrics.jsonl", 10, end=122) == {
        "waiting": 2.5,
        "step": 7.5 + 5,
        "evaluation": 3.5,
        "checkpoint": 1.5,
        "other": 2.0,
        "all": 22,
    }


def test_growth(folder, tiny_networks, monkeypatch):
    """Calls replace its child processes, whose start takes longer than their work."""

    def call(command: list[str], **_: object) -> types.SimpleNamespace:
        assert command[1:3] == ["-m", "benchmarks.growth"]
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            growth.main(command[3:])
        return types.SimpleNamespace(stdout=output.getvalue())

    monkeypatch.setattr(growth.subprocess, "run", call)
    result = run_quick(growth.main, folder, "growth")
    (run,) = result["runs"]["24"]
    assert run["seconds_a_thousand_faces"] > 0 and run["peak_mib"] > 100
    assert run["processor_seconds_a_thousand_faces"] != 0  # noise, may be negative
    ratios = {key: cell for key, cell in result["table"][0].items() if "to the smallest" in key}
    assert set(ratios.values()) == {"1.00"} and len(ratios) == 2
