"""The set of rendered faces: what is drawn is what is stored, whoever draws it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import simplejpeg

from affect_jax.core import labels
from affect_jax.core.batch import make_targets
from affect_jax.core.errors import UserError
from affect_jax.data import DATASETS, synthetic_faces
from affect_jax.data.builder import open_split
from affect_jax.facs.render import sample

SIZE = 32


def prepared(folder, **options):
    """A small set; worker processes only where a test asks for them."""
    defaults = {"image_size": SIZE, "num_training": 20, "num_validation": 16, "num_workers": 1}
    return DATASETS["synthetic_faces"](data_dir=str(folder), **{**defaults, **options})


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("faces"), seed=3)


def test_records_are_the_samples(builder):
    split = open_split(builder, "training")
    assert len(split) == 20
    for record in (split.records[row] for row in range(len(split))):
        name = record["id"].decode()
        face = sample.sample(3, int(name.removeprefix("training/")), size=SIZE)
        assert record["expression"] == face.expression
        np.testing.assert_allclose(record["valence"], face.valence, rtol=1e-6)
        np.testing.assert_allclose(record["arousal"], face.arousal, rtol=1e-6)
        for key in ("action_units", "landmarks", "box"):
            np.testing.assert_array_equal(record[key], getattr(face, key))
        np.testing.assert_array_equal(record["action_unit_sides"], face.sides)
        np.testing.assert_array_equal(record["action_units"], face.sides.max(axis=0))
        image = simplejpeg.decode_jpeg(record["image"], "RGB")
        assert image.shape == (SIZE, SIZE, 3)
        assert np.abs(image.astype(int) - face.image).mean() < 8  # but for JPEG's loss


def test_every_label_is_a_target(builder):
    """Nothing of a drawn face is masked."""
    targets = make_targets(open_split(builder, "validation").columns())
    for name, values in targets.items():
        assert np.isfinite(np.asarray(values, float)).all(), name


def test_validation_is_balanced_and_training_as_asked(builder, tmp_path):
    columns = open_split(builder, "validation").columns()
    assert np.bincount(columns["expression"]).tolist() == [2] * 8
    balanced = prepared(tmp_path, skew="balanced", num_training=24)
    columns = open_split(balanced, "training").columns()
    assert np.bincount(columns["expression"]).tolist() == [3] * 8


def test_a_larger_set_begins_with_the_smaller_one(builder, tmp_path):
    def images(builder) -> dict[bytes, bytes]:
        split = open_split(builder, "training")
        records = (split.records[row] for row in range(len(split)))
        return {record["id"]: record["image"] for record in records}

    few, many = images(builder), images(prepared(tmp_path, seed=3, num_training=30))
    assert len(many) == 30 and few.items() <= many.items()


def test_workers_change_no_byte(builder, tmp_path):
    several = prepared(tmp_path, seed=3, num_workers=2)
    for split in ("training", "validation"):
        first, second = (open_split(one, split) for one in (builder, several))
        assert first.fingerprint == second.fingerprint


def test_faces_are_drawn_as_they_are_written():
    """Of a million faces few are in memory at a time."""
    config = synthetic_faces.SyntheticConfig(name="many", num_training=1_000_000, image_size=16)
    builder = synthetic_faces.SyntheticFaces(config=config, data_dir="unused", num_workers=1)
    examples = builder._examples("training", 1_000_000)
    names = [name for name, _ in itertools.islice(examples, 5)]
    assert names == [f"training/{index:07d}" for index in range(5)]
    assert builder.counts["training"]["read"] <= 5
    examples.close()


def test_sets_of_other_options_lie_in_other_folders(builder):
    names = {
        synthetic_faces.config_of(**{**OPTIONS, option: value}).name
        for option, value in [("seed", 1), ("skew", "balanced"), ("num_training", 9_000),
                              ("num_validation", 9_000), ("image_size", 64), ("seed", 0)]
    }  # fmt: skip
    assert len(names) == 6


OPTIONS = {
    "image_size": 128,
    "num_training": 8_000,
    "num_validation": 1_000,
    "skew": "affectnet",
    "seed": 0,
}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("skew", "balancd", "did you mean 'balanced'"),
        ("num_training", 0, "num_training = 0; it must be 1 to 10,000,000"),
        ("num_validation", 10_000_001, "it must be 1 to 10,000,000"),
        ("image_size", 8, "image_size = 8; it must be 16 to 1024"),
        ("seed", -1, "seed = -1; it must not be negative"),
    ],
)
def test_options_out_of_range_are_told(tmp_path, option, value, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, **{option: value})
    assert not any(tmp_path.iterdir())


def test_faces_of_another_version_are_not_taken_for_these(builder, monkeypatch):
    monkeypatch.setattr(sample, "VERSION", "0")
    with pytest.raises(UserError, match="was prepared from other files"):
        prepared(builder.data_path.parents[2], seed=3)


def test_expressions_are_the_protocols(builder):
    names = open_split(builder, "training").classes
    assert tuple(names) == labels.EXPRESSIONS
