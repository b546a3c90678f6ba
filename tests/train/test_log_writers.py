"""Metrics of a run are read back with TensorBoard's own reader and a JSON parser."""

from __future__ import annotations

import errno
import json
import math
import pathlib

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboardX import record_writer

from affect_jax.train import log_writers


def read_back(workdir: pathlib.Path) -> event_accumulator.EventAccumulator:
    no_limit = {event_accumulator.SCALARS: 0, event_accumulator.IMAGES: 0}
    folder = str(workdir / "tensorboard")
    return event_accumulator.EventAccumulator(folder, size_guidance=no_limit).Reload()


def points(workdir: pathlib.Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read_back(workdir).Scalars(name)]


def lines(workdir: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def write(workdir: pathlib.Path, steps, value=lambda step: 1 / step, start: int = 0) -> None:
    with log_writers.MetricWriter(workdir, start) as writer:
        for step in steps:
            writer.write_scalars(step, {"train.loss": value(step)})


def test_scalars_are_read_back(tmp_path):
    write(tmp_path, range(1, 40))
    expected = [(step, np.float32(1 / step)) for step in range(1, 40)]
    assert points(tmp_path, "train/loss") == expected
    assert [(line["step"], line["train.loss"]) for line in lines(tmp_path)] == [
        (step, 1 / step) for step in range(1, 40)
    ]
    assert all(isinstance(line["time"], float) for line in lines(tmp_path))


def test_images_are_read_back(tmp_path):
    images = {"drawn": np.zeros((5, 4, 3), np.uint8), "grid": np.zeros((9, 4, 4, 3), np.uint8)}
    with log_writers.MetricWriter(tmp_path) as writer:
        for step in (1, 3):
            writer.write_images(step, images)
    events = read_back(tmp_path)
    assert events.Images("grid")[0].width > 2 * 4
    images = events.Images("drawn")
    assert [(event.step, event.width, event.height) for event in images] == [(1, 4, 5), (3, 4, 5)]


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(log_writers.processes, "is_main", lambda: False)
    with log_writers.MetricWriter(tmp_path) as writer:
        writer.write_scalars(1, {"loss": 1.0})
        writer.write_hparams({"seed": 1})
    assert not list(tmp_path.iterdir())


def test_hparams_and_scalars_of_the_same_second_are_read_back(tmp_path):
    with log_writers.MetricWriter(tmp_path) as writer:
        writer.write_hparams({"trunk.name": "alexnet", "seed": 3, "heads": ["expression"]})
        writer.write_scalars(1, {"train.loss": 0.5})
    assert points(tmp_path, "train/loss") == [(1, 0.5)]
    content = read_back(tmp_path).SummaryMetadata("_hparams_/session_start_info").plugin_data
    session = plugin_data_pb2.HParamsPluginData.FromString(content.content).session_start_info
    assert session.hparams["trunk.name"].string_value == "alexnet"
    assert session.hparams["seed"].number_value == 3
    assert session.hparams["heads"].string_value == '["expression"]'


def test_resume_drops_metrics_after_the_checkpoint(tmp_path):
    write(tmp_path, range(1, 31), value=lambda step: 1.0)
    write(tmp_path, range(21, 41), value=lambda step: 2.0, start=20)
    expected = [(step, 1.0 if step <= 20 else 2.0) for step in range(1, 41)]
    assert points(tmp_path, "train/loss") == expected
    assert [(line["step"], line["train.loss"]) for line in lines(tmp_path)] == expected


def test_fresh_start_drops_metrics_of_a_run_without_checkpoint(tmp_path):
    write(tmp_path, range(1, 5))
    write(tmp_path, range(1, 3))
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_nonfinite_numbers_are_null_in_json(tmp_path):
    with log_writers.MetricWriter(tmp_path) as writer:
        writer.write_scalars(1, {"a": math.nan, "b": -math.inf, "c": np.float32(2)})
    (line,) = lines(tmp_path)
    assert (line["a"], line["b"], line["c"]) == (None, None, 2.0)


@pytest.mark.parametrize("damage", ['{"step": 4, "ti', "\x00\x00", "", "{}", "3"])
def test_damaged_lines_are_dropped(tmp_path, damage):
    """A kill or a full disk can cut a line anywhere."""
    write(tmp_path, [1, 2, 3])
    path = tmp_path / "metrics.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_bytes("\n".join([first, damage, *rest]).encode() + b'\n{"step": 4')
    write(tmp_path, [4], start=3)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]


def test_unwritable_folder_is_one_warning_per_file(tmp_path, logged_warnings):
    (tmp_path / "file").write_text("")
    with log_writers.MetricWriter(tmp_path / "file") as writer:
        for step in range(1, 100):
            writer.write_scalars(step, {"loss": 1.0})
        writer.write_images(1, {"image": np.zeros((2, 2, 3), np.uint8)})
        writer.write_hparams({"seed": 1})
    assert len(logged_warnings) == 2
    for warning in logged_warnings:
        assert " cannot be written: " in warning
        assert warning.endswith("training continues")


def test_events_resume_after_a_full_disk(tmp_path, logged_warnings, monkeypatch):
    """Events after a record that was cut off could not be read, so they go to a new file."""
    free_bytes = [400]

    class FullDisk:
        def __init__(self, path, mode):
            self._file = open(path, mode)

        def write(self, content):
            written = min(len(content), free_bytes[0])
            free_bytes[0] -= written
            self._file.write(content[:written])
            if written < len(content):
                raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            self._file.flush()

        def close(self):
            self._file.close()

    monkeypatch.setattr(record_writer, "open", FullDisk, raising=False)
    with log_writers.MetricWriter(tmp_path) as writer:
        for step in range(1, 41):
            free_bytes[0] += 10**6 * (step == 30)
            writer.write_scalars(step, {"train.loss": 1 / step})
    assert len(logged_warnings) == 1
    assert "No space left on device" in logged_warnings[0]
    written = [step for step, _ in points(tmp_path, "train/loss")]
    before = [step for step in written if step < 30]
    assert before == list(range(1, len(before) + 1)) and 0 < len(before) < 29
    assert written == [*before, *range(30, 41)]
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 41))


def test_scalars_reach_the_disk_while_the_run_continues(tmp_path):
    with log_writers.MetricWriter(tmp_path) as writer:
        for step in (1, 2):
            writer.write_scalars(step, {"train.loss": 0.5})
            assert points(tmp_path, "train/loss")[-1] == (step, 0.5)
            assert lines(tmp_path)[-1]["step"] == step
