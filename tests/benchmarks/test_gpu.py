"""The GPU benchmark skips what fails and keeps the other measurements."""

from __future__ import annotations

import pytest

from benchmarks import gpu, harness

pytest.importorskip("torch").set_num_threads(1)


def raise_memory_error(*_: object, **__: object) -> None:
    raise MemoryError("no room")


def measure(part: str, *argv: str) -> list[dict]:
    measurements: list[dict] = []
    gpu.measure(part, gpu.parse_args(["--quick", *argv]), measurements.append)
    return measurements[1:]  # without the device


def test_failed_schedule_is_skipped(tiny_networks, monkeypatch, capsys):
    def measure_schedule(name: str, _: object) -> dict:
        return raise_memory_error() if name == "alexnet" else {"minutes": 2.0}

    monkeypatch.setattr(gpu, "measure_schedule", measure_schedule)
    measurements = measure("schedule", "--networks", "alexnet", "resnet18")
    assert measurements == [{"part": "schedule", "network": "resnet18", "minutes": 2.0}]
    assert capsys.readouterr().err == "skipped: schedule, alexnet: no room\n"


def test_rates_are_kept_if_other_measurements_fail(tiny_networks, monkeypatch, capsys):
    """The peak FLOP/s, the FLOP count, and a contender in its second round fail."""
    monkeypatch.setattr(gpu.flops, "measure_peak_flops", raise_memory_error)
    monkeypatch.setattr(gpu.flops, "count_flops", raise_memory_error)

    def torch_steps(*_: object):
        works = iter([int, int, raise_memory_error, int])  # the first call warms up
        return lambda _: next(works)()

    monkeypatch.setattr(gpu, "torch_steps", torch_steps)
    measurements = measure("steps", "--rounds", "3")
    assert [set(line["rates"]) for line in measurements[1:]] == [{gpu.OURS}] * 2
    assert all(len(line["rates"][gpu.OURS]) == 3 for line in measurements[1:])
    rows = gpu.table_rows(measurements)
    assert [row["what"] for row in rows] == ["train, images/s", "eval, images/s"]
    assert all(row[gpu.EAGER] == "-" and "of the limit" not in row for row in rows)
    assert harness.markdown_table(rows)
    errors = capsys.readouterr().err
    assert "skipped: peak FLOP/s: no room" in errors and "FLOPs of alexnet" in errors


def test_larger_batches_run_fewer_steps(tiny_networks, monkeypatch):
    """Large batches process as many images; small batches do not run more steps."""
    steps: list[int] = []
    monkeypatch.setattr(gpu, "our_steps", lambda *_: steps.append)
    args = gpu.parse_args(["--quick", "--peers", "--steps", "8"])
    for batch_size in (4, 256, 1024, 4096):
        gpu.step_rates("alexnet", "float32", batch_size, "train", args)
    assert steps[1::2] == [8, 8, 2, 1]


def test_no_case_starts_without_time_left(monkeypatch, capsys):
    monkeypatch.setattr(gpu.flops, "measure_peak_flops", lambda _: 1.0)
    measurements = measure("steps", "--child_until=0")
    assert measurements == [{"part": "peak", "flops": 1.0}]
    assert "skipped, no time left: alexnet, float32, 4" in capsys.readouterr().err


def test_unknown_compiler_flag_is_skipped(tiny_networks, capsys):
    flags = ["xla_cpu_enable_fast_math=false", "xla_no_such_flag=true"]
    (line,) = measure("flags", "--flags", *flags)
    assert line["flag"] == flags[0] and list(line["rates"]) == ["", flags[0]]
    assert "skipped: alexnet with xla_no_such_flag=true: " in capsys.readouterr().err
    assert [row["what"] for row in gpu.table_rows([line])] == [f"train, images/s, {flags[0]}"]
