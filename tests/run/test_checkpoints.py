"""Checkpoints: bit-exact restore, which ones are kept, and saves that fail."""

from __future__ import annotations

import re
import shutil
import types

import numpy as np
import orbax.checkpoint as ocp
import pytest

from affect_jax.core.errors import UserError
from affect_jax.run.checkpoints import Checkpoints
from tests.run.conftest import INFO, TEMPLATE, assert_same, save, state_of


def test_restore_is_bit_exact(two_steps):
    with Checkpoints(two_steps) as checkpoints:
        state, info = checkpoints.restore(TEMPLATE, "last")
        assert_same(state, state_of(20))
        assert info["step"] == 20
        assert INFO.items() <= info.items()
        older, _ = checkpoints.restore(TEMPLATE, "10")
        assert_same(older, state_of(10))


def test_restore_does_not_change_the_folder(two_steps):
    def content():
        return {path: path.read_bytes() for path in two_steps.rglob("*") if path.is_file()}

    before = content()
    with Checkpoints(two_steps) as checkpoints:
        checkpoints.restore(TEMPLATE, "last")
        checkpoints.best_step()
    assert content() == before


def test_restore_of_unusual_arrays(folder):
    state = {
        "not_finite": np.array([np.nan, np.inf, -0.0], np.float32),
        "flags": np.array([True, False]),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, state, INFO)
        checkpoints.wait()
        restored, _ = checkpoints.restore(state, "last")
    assert_same(restored, state)


@pytest.mark.parametrize(
    ("best_score", "scores"), [("f1", (0.2, 0.9, 0.5, 0.1)), ("-rmse", (0.4, 0.1, 0.3, 0.2))]
)
def test_the_newest_and_the_best_are_kept(folder, best_score, scores):
    """Also by a new object for each step, as in a resumed run, which reads the earlier scores."""
    name, options = best_score.removeprefix("-"), {"keep_last": 1, "best_score": best_score}
    save(folder, 1, 2, 3, **options, scores=lambda step: {name: scores[step - 1]})
    save(folder, 4, **options, scores=lambda step: {name: scores[step - 1]})
    with Checkpoints(folder, **options) as checkpoints:
        assert checkpoints.all_steps() == [2, 4]
        assert checkpoints.best_step() == 2
        assert_same(checkpoints.restore(TEMPLATE, "best")[0], state_of(2))


def test_nan_and_missing_scores_are_never_the_best(folder):
    scores = {1: {"f1": np.nan}, 2: {"f1": 0.1}, 3: {"other": 1.0}, 4: None}
    save(folder, *scores, keep_last=4, best_score="f1", scores=lambda step: scores[step])
    with Checkpoints(folder, keep_last=4, best_score="f1") as checkpoints:
        assert checkpoints.best_step() == 2


def test_score_of_a_damaged_checkpoint_is_ignored(folder):
    scores = {1: 0.2, 2: 0.9, 3: 0.5}
    options = {"keep_last": 2, "best_score": "f1"}
    save(folder, *scores, **options, scores=lambda step: {"f1": scores[step]})
    path = folder / "2" / "info" / "metadata"
    original = path.read_text()
    for damaged in (original.replace("0.9", "0.1"), ""):
        assert damaged != original
        path.write_text(damaged)
        with Checkpoints(folder, **options) as checkpoints:
            assert checkpoints.best_step() == 3
    save(folder, 4, **options, scores=lambda step: {"f1": 0.1})
    with Checkpoints(folder, **options) as checkpoints:
        assert checkpoints.all_steps() == [3, 4] and checkpoints.best_step() == 3


def test_broken_link_in_place_of_the_folder_is_an_error(folder):
    """The disk of a link may be absent; the run must not start from scratch."""
    folder.symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        Checkpoints(folder).all_steps()


def test_only_folders_named_by_a_step_are_checkpoints(damaged):
    for name in ("\u00b2", "30.orbax-checkpoint-tmp-1", "-5", "x"):
        shutil.copytree(damaged / "20", damaged / name)
    with Checkpoints(damaged) as checkpoints:
        assert checkpoints.all_steps() == [10, 20]


def test_without_scores_best_is_the_last(two_steps, logged_warnings):
    checkpoints = Checkpoints(two_steps, best_score="f1")
    assert checkpoints.best_step() is None
    assert checkpoints.restore(TEMPLATE, "best")[1]["step"] == 20
    assert logged_warnings == ["no checkpoint has a score yet; using the last one, step 20"]


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [("30", r"checkpoint '30': .* holds steps 10, 20"), ("new", "must be best, last or a step")],
)
def test_unknown_checkpoint_is_an_error(two_steps, checkpoint, message):
    with Checkpoints(two_steps) as checkpoints, pytest.raises(UserError, match=message):
        checkpoints.restore(TEMPLATE, checkpoint)


def test_restore_without_checkpoints_is_an_error(folder):
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.all_steps() == []
        with pytest.raises(UserError, match="no checkpoint; train first"):
            checkpoints.restore(TEMPLATE, "last")


def test_unwritable_folder_is_a_warning(folder, logged_warnings):
    save(folder, 10)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(20, state_of(20), INFO)
        checkpoints.wait()
        shutil.move(folder, folder.with_name("elsewhere"))
        folder.write_text("a file where the folder was")
        checkpoints.save(30, state_of(30), INFO)
        checkpoints.wait()
    assert len(logged_warnings) == 1
    assert re.match(
        "checkpoint.* could not be written to .*; earlier checkpoints are intact",
        logged_warnings[0],
    )
    assert "\n" not in logged_warnings[0]


def test_full_disk_is_a_warning_before_anything_is_written(folder, logged_warnings, monkeypatch):
    save(folder, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=100))
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(20, state_of(20), INFO)
    assert [path.name for path in folder.iterdir()] == ["10"]
    assert len(logged_warnings) == 1
    assert (
        "0 MiB are free; earlier checkpoints are intact and training continues"
        in logged_warnings[0]
    )


@pytest.mark.parametrize("call", ["save", "wait_until_finished"])
def test_failed_save_is_a_warning_in_any_later_call(folder, logged_warnings, monkeypatch, call):
    """Orbax raises the errors of its threads in the next call, whichever that is."""

    def fail(*_, **__):
        raise RuntimeError("Event loop is closed")

    checkpoints = Checkpoints(folder)
    with monkeypatch.context() as patch:
        patch.setattr(ocp.AsyncCheckpointer, call, fail)
        checkpoints.save(20, state_of(20), INFO)
        checkpoints.wait()
    assert logged_warnings and all("Event loop" in warning for warning in logged_warnings)
    checkpoints.save(30, state_of(30), INFO)
    checkpoints.ensure_saved(30)
    with pytest.raises(UserError, match="the checkpoint of step 31 could not be written"):
        checkpoints.ensure_saved(31)


def test_failed_save_does_not_affect_the_next_one(folder, logged_warnings, monkeypatch):
    checkpoints = Checkpoints(folder)
    checkpoints.save(10, state_of(10), INFO)
    close, failures = ocp.AsyncCheckpointer.close, [RuntimeError("of step 10")]

    def fail_once(checkpointer):
        close(checkpointer)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(ocp.AsyncCheckpointer, "close", fail_once)
    checkpoints.save(20, state_of(20), INFO)
    checkpoints.ensure_saved(20)
    (warning,) = logged_warnings
    assert "of step 10" in warning and "20" not in warning.replace(str(folder), "")


def test_from_config_uses_the_settings_of_the_run(tmp_path):
    checkpoint = types.SimpleNamespace(keep_last=1, best="")
    config = types.SimpleNamespace(checkpoint=checkpoint)
    with Checkpoints.from_config(config, types.SimpleNamespace(path=tmp_path)) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state_of(step), INFO)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]
