"""Damaged checkpoints are detected, skipped and set aside."""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest

from affect_jax.core.errors import UserError
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.manifest import FORMAT_VERSION, DamagedCheckpointError, read_manifest
from tests.run.conftest import INFO, TEMPLATE, assert_same, state_of


def delete(path: pathlib.Path) -> None:
    path.unlink()


def empty(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: pathlib.Path) -> None:
    """Flips one bit in each sixteenth of the file."""
    content = bytearray(path.read_bytes())
    for i in range(0, len(content), max(1, len(content) // 16)):
        content[i] ^= 0x10
    path.write_bytes(content)


def files_of(step: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in step.rglob("*") if path.is_file())


@pytest.mark.bad_input
@pytest.mark.parametrize("damage", [delete, empty, truncate, flip])
def test_damage_to_any_file_is_detected(
    two_steps, tmp_path, logged_warnings, record_property, damage
):
    """Damages each file of the newest checkpoint: restore is exact, or uses the older one."""
    num_skipped = 0
    for number, original in enumerate(files_of(two_steps / "20")):
        folder = tmp_path / str(number)
        shutil.copytree(two_steps, folder)
        damage(folder / original.relative_to(two_steps))
        logged_warnings.clear()
        state, info = Checkpoints(folder).restore(TEMPLATE, "last")
        assert_same(state, state_of(info["step"]))
        if info["step"] == 10:
            num_skipped += 1
            assert re.match("checkpoint 20: .*; using checkpoint 10 instead$", logged_warnings[0])
            assert len(logged_warnings) == 1
        else:
            assert not logged_warnings
        record_property("fault", ("any file of a checkpoint damaged", "exact, or skipped", 0))
    assert num_skipped >= 3  # our manifest, Orbax's manifest and the data; the rest is redundant


@pytest.mark.bad_input
def test_flipped_bits_of_the_manifest_are_detected(damaged):
    """The manifest holds the hashes of all arrays, and a checksum of its own."""
    path = damaged / "20" / "info" / "metadata"
    original = path.read_bytes()
    intact = read_manifest(damaged / "20")
    for position in range(0, len(original), 7):
        content = bytearray(original)
        content[position] ^= 0x01
        path.write_bytes(content)
        try:
            assert read_manifest(damaged / "20") == intact
        except DamagedCheckpointError:
            continue


def rewrite_manifest(step: pathlib.Path, **changes) -> None:
    """Changes fields of a checkpoint's manifest and updates its checksum."""
    path = step / "info" / "metadata"
    body = json.loads(json.loads(path.read_text())["body"]) | changes
    text = json.dumps(body)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps({"body": text, "sha256": digest}))


@pytest.mark.bad_input
def test_newer_format_is_skipped(damaged, logged_warnings):
    rewrite_manifest(damaged / "20", format=FORMAT_VERSION + 1)
    with Checkpoints(damaged) as checkpoints:
        state, _ = checkpoints.restore(TEMPLATE, "last")
    assert_same(state, state_of(10))
    assert "newer affect_jax" in logged_warnings[0]


@pytest.mark.bad_input
def test_arrays_exchanged_between_checkpoints_are_detected(damaged, logged_warnings):
    """The state of step 10 does not match the hashes in the manifest of step 20."""
    shutil.rmtree(damaged / "20" / "state")
    shutil.copytree(damaged / "10" / "state", damaged / "20" / "state")
    with Checkpoints(damaged) as checkpoints:
        state, _ = checkpoints.restore(TEMPLATE, "last")
    assert_same(state, state_of(10))
    assert "does not match" in logged_warnings[0]


OTHER_MODELS = {
    "params.more is missing in the checkpoint and bfloat16": lambda params: (
        params | {"more": params["half"]}
    ),
    "params.half .* and missing in the config's model": lambda params: (
        {"kernel": params["kernel"]}
    ),
    r"params.kernel is float32 \[64, 3\] in .* and float32 \[64, 4\]": lambda params: (
        params | {"kernel": jax.ShapeDtypeStruct((64, 4), np.float32)}
    ),
    r"params.kernel is float32 \[64, 3\] in .* and int32 \[64, 3\]": lambda params: (
        params | {"kernel": jax.ShapeDtypeStruct((64, 3), np.int32)}
    ),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("message", OTHER_MODELS)
def test_checkpoint_of_another_model_is_an_error_that_names_the_array(two_steps, message):
    template = TEMPLATE | {"params": OTHER_MODELS[message](TEMPLATE["params"])}
    with Checkpoints(two_steps) as checkpoints:
        with pytest.raises(
            UserError, match=f"20 cannot be restored\\n  20: .*another model: {message}"
        ):
            checkpoints.restore(template, "20")
        with pytest.raises(UserError, match="no checkpoint can be restored") as caught:
            checkpoints.restore(template, "last")
    assert [problem[:2] for problem in caught.value.problems] == ["20", "10"]


@pytest.mark.bad_input
def test_without_an_intact_checkpoint_the_error_lists_all(damaged):
    (damaged / "20" / "info" / "metadata").unlink()
    truncate(damaged / "10" / "info" / "metadata")
    with Checkpoints(damaged) as checkpoints:
        with pytest.raises(UserError, match="no checkpoint can be restored") as caught:
            checkpoints.restore(TEMPLATE, "last")
    assert len(caught.value.problems) == 2
    assert "\n" not in "".join(caught.value.problems)


@pytest.mark.bad_input
def test_empty_step_folder_is_skipped(damaged, logged_warnings):
    shutil.rmtree(damaged / "20")
    (damaged / "20").mkdir()
    assert_same(Checkpoints(damaged).restore(TEMPLATE, "last")[0], state_of(10))
    assert len(logged_warnings) == 1


@pytest.mark.bad_input
def test_partial_checkpoint_of_a_killed_run_is_ignored(damaged):
    """Orbax writes to a temporary folder, which is removed when the run resumes."""
    partial = damaged / "30.orbax-checkpoint-tmp-1"
    shutil.copytree(damaged / "20", partial)
    (partial / "info" / "metadata").unlink()
    with Checkpoints(damaged) as checkpoints:
        assert checkpoints.all_steps() == [10, 20]
        assert_same(checkpoints.restore(TEMPLATE, "last")[0], state_of(20))
        checkpoints.save(30, state_of(30), INFO)
    with Checkpoints(damaged) as checkpoints:
        assert checkpoints.all_steps() == [20, 30]
        assert_same(checkpoints.restore(TEMPLATE, "last")[0], state_of(30))
    assert not partial.exists()


@pytest.mark.bad_input
def test_resumed_run_saves_the_damaged_step_again(damaged, logged_warnings):
    empty(damaged / "20" / "info" / "metadata")
    for _ in range(2):  # `damaged/20` may exist already
        with Checkpoints(damaged) as checkpoints:
            checkpoints.restore(TEMPLATE, "last")
            checkpoints.quarantine(newer_than=10)
            assert checkpoints.all_steps() == [10]
            checkpoints.save(20, state_of(20), INFO)
        assert_same(Checkpoints(damaged).restore(TEMPLATE, "20")[0], state_of(20))
    assert (damaged / "damaged" / "20" / "info" / "metadata").exists()
    assert len(logged_warnings) == 1
