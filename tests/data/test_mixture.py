"""A mixture of datasets: order, labels by head, shares, scores by part, wrong options."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.config import defaults
from affect_jax.core.errors import UserError
from affect_jax.data import DATASETS, sampling
from affect_jax.data.tfds_builder import open_split
from affect_jax.evaluate.checkpoint_evaluation import evaluate_checkpoint
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import load_registries
from affect_jax.train.loop import train_and_evaluate
from tests import releases
from tests.data import layout_folders
from tests.faults import tiny_config  # noqa: F401  # registers the trunk `tiny`

SIZE = 32
RENDERED = {"name": "synthetic_faces", "num_training": 24, "num_validation": 8}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    releases.write_release(folder / "release", training=40, validation=16)
    load_registries()
    return folder


def create(folders, **options):
    parts = {
        "release": {"name": "affectnet", "manual_dir": str(folders / "release")},
        "rendered": RENDERED,
    }
    for name, changes in options.pop("changes", {}).items():
        parts[name] = {**parts[name], **changes}
    spec = {"name": "mixture", "parts": parts, **options}
    return DATASETS.create(spec, data_dir=str(folders / "data"), image_size=SIZE)


def test_faces_of_the_parts_follow_each_other(folders):
    mixture = create(folders)
    split = open_split(mixture, "training")
    parts = [open_split(builder, "training") for builder in mixture.builders.values()]
    assert len(split) == sum(map(len, parts)) == 64
    jpegs = [part.records.read_jpeg(row) for part in parts for row in range(len(part))]
    records = pickle.loads(pickle.dumps(split.records))
    assert [records.read_jpeg(row) for row in range(len(split))] == jpegs
    assert records[63]["image"] == jpegs[-1] and records[-1]["image"] == jpegs[-1]
    columns = split.columns()
    first, second = (part.columns() for part in parts)
    for name in ("expression", "valence", "landmarks", "action_units"):
        joined = np.concatenate([first[name], second[name]])
        np.testing.assert_array_equal(columns[name], joined)
    assert columns["id"][0] == f"release/{first['id'][0]}"
    assert split.part_names().tolist() == ["release"] * 40 + ["rendered"] * 24
    assert split.fingerprint != open_split(mixture, "validation").fingerprint
    split.verify()


def test_part_contributes_the_labels_of_its_heads(folders):
    changes = {"rendered": {"heads": ["action_units"]}, "release": {"heads": ["expression"]}}
    split = open_split(create(folders, changes=changes), "training")
    columns = split.columns()
    release = split.part_names() == "release"
    assert (columns["expression"][~release] == -1).all() and (columns["expression"] >= 0).any()
    assert np.isnan(columns["valence"]).all()
    for name in ("action_units", "landmarks"):
        assert np.isnan(columns[name][release]).all() and np.isfinite(columns[name][~release]).all()
    other = open_split(create(folders), "training")
    assert other.fingerprint != split.fingerprint


def test_distributions_and_votes_follow_the_classes_of_the_mixture(folders, tmp_path):
    """A part without them has NaN, in any order of the parts."""
    layout_folders.fer_plus_pixels(tmp_path / "fer")
    parts = {
        "release": {"name": "affectnet", "manual_dir": str(folders / "release")},
        "fer": {"name": "fer_plus", "manual_dir": str(tmp_path / "fer")},
    }
    classes = ("anger", "neutral", "fear")
    for order in (("release", "fer"), ("fer", "release")):
        mixture = DATASETS.create(
            {"name": "mixture", "parts": {name: parts[name] for name in order}, "classes": classes},
            data_dir=str(folders / "data"),
            image_size=SIZE,
        )
        split = open_split(mixture, "training")
        columns = split.columns()
        is_fer = np.char.startswith(columns["id"], "fer/")
        for name, scale in (("votes", 10), ("expression_distribution", 1)):
            assert columns[name].shape == (len(split), 3) and np.isnan(columns[name][~is_fer]).all()
            found = sorted(columns[name][is_fer].tolist())  # 3 of anger, 4 of neutral; non-face
            np.testing.assert_allclose(found, np.array([[0, 0, 0], [0.3, 0.4, 0]]) * scale)


@pytest.mark.parametrize("classes", [("contempt", "neutral"), ("Contempt", "normal")])
def test_classes_are_matched_by_name(folders, classes, caplog):
    columns = open_split(create(folders, classes=classes), "training").columns("expression")
    assert "rendered: faces of these classes have no expression: happiness, sadness" in caplog.text
    original = open_split(create(folders), "training").columns("expression")["expression"]
    expected = np.select([original == 7, original == 0], [0, 1], -1)
    np.testing.assert_array_equal(columns["expression"], expected)


@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    weights=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    seed=st.integers(0, 9),
)
def test_every_part_has_its_share_of_an_epoch(sizes, weights, seed):
    parts = np.repeat(np.arange(len(sizes)).astype(str), sizes)
    weights = weights[: len(sizes)]
    shares = {str(i): weight / sum(weights) for i, weight in enumerate(weights)}
    sampler = sampling.ShareSampling(sampling.NoResampling(), parts, shares)
    epochs = [sampler(np.zeros(len(parts), int), seed, epoch) for epoch in range(2)]
    assert len(epochs[0]) == len(epochs[1])
    for rows in epochs:
        for part, share in shares.items():
            repeats = np.bincount(rows, minlength=len(parts))[parts == part]
            assert repeats.sum() == round(share * len(parts))
            assert repeats.max() - repeats.min() <= 1


def test_every_part_is_sampled_by_itself():
    parts, classes = np.repeat(["large", "small"], [300, 4]), np.arange(304) % 2
    sampler = sampling.ShareSampling(
        sampling.DownSampling(cap=20), parts, {"large": 0.5, "small": 0.5}
    )
    for epoch in range(20):
        rows = sampler(classes, 0, epoch)
        assert len(rows) == 44 and (parts[rows] == "small").sum() == 22
    unlabelled = np.where(parts == "small", -1, classes)
    with pytest.raises(UserError, match="parts.small: has no face with labels of config.heads"):
        sampler(unlabelled, 0, 0)


@pytest.mark.slow
def test_run_resumes_exactly_and_is_scored_by_part(folders, tmp_path):
    config = defaults()
    releases.shrink_config(config, folders / "release", folders / "data", batch_size=8)
    config.trunk = {"name": "tiny"}
    config.data.name = "mixture"
    config.data.options = {
        "parts": {
            "release": {"name": "affectnet", "share": 0.75},
            "rendered": {**RENDERED, "share": 0.25},
        }
    }
    config.schedule = {"name": "constant"}
    hashes = []
    for stops in ([10], [3, 10]):  # 8 updates an epoch
        workdir = Workdir(tmp_path / f"{len(stops)}")
        for steps in stops:
            config.duration = {"epochs": 0.0, "steps": steps}
            assert train_and_evaluate(config, workdir) == 0
        manifest = json.loads((workdir.path / "checkpoints/10/info/metadata").read_text())["body"]
        hashes.append({k: v["sha256"] for k, v in json.loads(manifest)["arrays"].items()})
    assert hashes[0] == hashes[1]
    evaluation = evaluate_checkpoint(config, workdir, checkpoint="last", split=None)
    groups = json.loads((evaluation.folder / "scores.json").read_text())["groups"]["part"]
    assert {part: group["faces"] for part, group in groups.items()} == {
        "release": 16,
        "rendered": 8,
    }


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rendered": {"share": 1.5}}, r"parts\.rendered\.share = 1\.5: must be in \[0, 1\]"),
        ({"rendered": {"share": 0.5}}, "shares .*: there must be two parts or more, and"),
        ({"rendered": {"heads": ["valence"]}}, r"rendered\.heads: 'valence': unknown"),
        ({"rendered": {"name": "mixture"}}, "rendered: a part cannot be a mixture"),
        ({"rendered": {"skews": "x"}}, r"rendered\.skews: synthetic_faces has no such option"),
    ],
)
def test_wrong_part_is_one_line(folders, changes, message):
    with pytest.raises(UserError, match=message) as error:
        create(folders, changes=changes)
    assert "\n" not in str(error.value)


def test_unknown_split_is_one_line(folders):
    with pytest.raises(UserError, match="mixture: split 'test': unknown; .*Known: training, valid"):
        open_split(create(folders), "test")
