"""What fails is left out, and what was measured is kept."""

from __future__ import annotations

import pytest

from benchmarks import gpu, recording

pytest.importorskip("torch").set_num_threads(1)


def failing(*_: object, **__: object) -> None:
    raise MemoryError("no room")


def measured(part: str, *arguments: str) -> list[dict]:
    found: list[dict] = []
    gpu.measure(part, gpu.parse(["--quick", *arguments]), found.append)
    return found[1:]  # without the device


def test_a_schedule_that_fails_leaves_the_others(tiny, monkeypatch, capsys):
    def schedule(name: str, _: object) -> dict:
        return failing() if name == "alexnet" else {"minutes": 2.0}

    monkeypatch.setattr(gpu, "schedule", schedule)
    found = measured("schedule", "--networks", "alexnet", "resnet18")
    assert found == [{"part": "schedule", "network": "resnet18", "minutes": 2.0}]
    assert capsys.readouterr().err == "left out: schedule, alexnet: no room\n"


def test_rates_are_kept_whatever_else_fails(tiny, monkeypatch, capsys):
    """The limit, the count of operations, and a contender in its second round."""
    monkeypatch.setattr(gpu.limits, "peak", failing)
    monkeypatch.setattr(gpu.limits, "operations", failing)

    def torch_take(*_: object):
        works = iter([int, int, failing, int])  # the first warms up
        return lambda _: next(works)()

    monkeypatch.setattr(gpu, "torch_take", torch_take)
    found = measured("steps", "--rounds", "3")
    assert [set(line["rates"]) for line in found[1:]] == [{gpu.OURS}] * 2
    assert all(len(line["rates"][gpu.OURS]) == 3 for line in found[1:])
    rows = gpu.rows_of(found)
    assert [row["what"] for row in rows] == ["train, images/s", "eval, images/s"]
    assert all(row[gpu.EAGER] == "-" and "of the limit" not in row for row in rows)
    assert recording.table(rows)
    told = capsys.readouterr().err
    assert "left out: the limit: no room" in told and "operations of alexnet" in told


def test_larger_batches_are_fewer_steps(tiny, monkeypatch):
    """As many images are measured; smaller batches do not make more steps."""
    taken: list[int] = []
    monkeypatch.setattr(gpu, "our_take", lambda *_: taken.append)
    options = gpu.parse(["--quick", "--peers", "--steps", "8"])
    for size in (4, 256, 1024, 4096):
        gpu.step_rates("alexnet", "float32", size, "train", options)
    assert taken[1::2] == [8, 8, 2, 1]


def test_a_part_that_is_late_begins_no_case(monkeypatch, capsys):
    monkeypatch.setattr(gpu.limits, "peak", lambda _: 1.0)
    found = measured("steps", "--child_until=0")
    assert found == [{"part": "peak", "flops": 1.0}]
    assert "left out for want of time: alexnet, float32, 4" in capsys.readouterr().err


def test_a_flag_that_this_compiler_does_not_know_is_left_out(tiny, capsys):
    flags = ["xla_cpu_enable_fast_math=false", "xla_no_such_flag=true"]
    (line,) = measured("flags", "--flags", *flags)
    assert line["flag"] == flags[0] and list(line["rates"]) == ["", flags[0]]
    assert "left out: alexnet with xla_no_such_flag=true: " in capsys.readouterr().err
    assert [row["what"] for row in gpu.rows_of([line])] == [f"train, images/s, {flags[0]}"]
