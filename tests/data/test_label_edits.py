"""Lists of ids and label noise: which labels change, for any order of the faces."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.config import defaults
from affect_jax.core import registry
from affect_jax.core.errors import UserError
from affect_jax.data.dataset import load_targets, open_splits
from affect_jax.data.label_edits import LABEL_NOISE
from tests.data import layout_folders
from tests.releases import shrink_config, write_release

registry.import_submodules("affect_jax.data")

IDS = np.array([f"images/{i}.jpg" for i in range(4000)])
LABELS = np.arange(4000) % 11 - 1  # unlabelled, 8 classes and 2 annotations that are no class
MATRIX = np.random.default_rng(0).dirichlet(np.ones(8), 8)
SPECS = [
    {"name": "symmetric", "rate": 0.2},
    {"name": "confusion", "matrix": MATRIX.tolist(), "seed": 3},
]


@pytest.mark.parametrize("spec", SPECS, ids=["symmetric", "confusion"])
def test_noise_has_its_rates_and_keeps_what_is_no_class(spec):
    noise = LABEL_NOISE.create(spec, num_classes=8)
    noisy = noise(IDS, LABELS)
    is_class = (LABELS >= 0) & (LABELS < 8)
    np.testing.assert_array_equal(noisy[~is_class], LABELS[~is_class])
    assert noisy[is_class].min() == 0 and noisy[is_class].max() == 7
    expected = MATRIX if "matrix" in spec else np.eye(8) * 0.8 + (1 - np.eye(8)) * 0.2 / 7
    for label in range(8):
        members = noisy[LABELS == label]
        shares = np.bincount(members, minlength=8) / len(members)
        deviation = np.sqrt(expected[label] * (1 - expected[label]) / len(members))
        assert (np.abs(shares - expected[label]) <= 4.5 * deviation + 1e-12).all()
    other = LABEL_NOISE.create({**spec, "seed": 9}, num_classes=8)
    assert (other(IDS, LABELS) != noisy).any()


@given(st.permutations(range(60)), st.integers(1, 60))
def test_noise_depends_on_the_id_only(order, count):
    noise = LABEL_NOISE.create({"name": "symmetric", "rate": 0.5}, num_classes=8)
    rows = np.array(order[:count])
    np.testing.assert_array_equal(noise(IDS[rows], LABELS[rows]), noise(IDS, LABELS)[rows])


@pytest.mark.parametrize(("rate", "changed"), [(0.0, False), (1.0, True)])
def test_symmetric_noise_changes_to_another_class(rate, changed):
    noise = LABEL_NOISE.create({"name": "symmetric", "rate": rate}, num_classes=8)
    is_class = (LABELS >= 0) & (LABELS < 8)
    assert ((noise(IDS, LABELS) != LABELS)[is_class] == changed).all()


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edits")
    write_release(folder / "release", training=40, validation=16)
    return folder


def config_of(folder, **changes):
    config = defaults()
    shrink_config(config, folder / "release", folder / "data", **changes)
    config.heads = ("expression", "valence_arousal", "action_units")
    return config


def test_lists_change_labels_in_every_split(release, tmp_path, logged_warnings):
    names = ("training", "validation")
    plain = open_splits(config_of(release), *names)
    assert [split.edits for split in plain] == [None, None]
    ids = [split.columns("id")["id"] for split in plain]
    ignored, relabelled = [ids[0][3], ids[1][2], "gone"], [ids[0][3], ids[0][5], ids[1][7]]
    (tmp_path / "i.csv").write_text("\n".join(["id", *ignored]))
    rows = [
        f"{id},{label}" for id, label in zip(relabelled, ("Happy", "fear", "3_sad"), strict=True)
    ]
    (tmp_path / "r.csv").write_text("\n".join(["id,label", *rows]))
    files = {"data__ignore": str(tmp_path / "i.csv"), "data__relabel": str(tmp_path / "r.csv")}
    config = config_of(release, **files)
    edited = open_splits(config, *names)
    warnings = [text for text in logged_warnings if text.startswith("data.")]
    assert warnings == [f"data.ignore: 1 of 3 ids of {tmp_path}/i.csv are not in the data"]
    assert [dict(split.edits.summary) for split in edited if split.edits] == [
        {"ignored": 1, "relabelled": 1}
    ] * 2
    for before, after, (row, other, label) in zip(
        plain, edited, ((3, 5, 4), (2, 7, 2)), strict=True
    ):
        assert before.fingerprint != after.fingerprint
        expected, found = before.columns(), after.columns()
        expected["expression"][[row, other]] = [-1, label]
        for name in ("valence", "arousal", "landmarks", "action_units", "aspect"):
            expected[name][row] = np.nan
        np.testing.assert_array_equal(found["action_unit_sides"][row], np.nan)
        del expected["action_unit_sides"]
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, name)
        targets, _ = load_targets(config, after)
        assert not any(mask[row].any() for name, mask in targets.items() if "_mask" in name)
    again = open_splits(config, *names)
    assert [split.fingerprint for split in again] == [split.fingerprint for split in edited]


def test_noise_is_on_the_training_split_only_and_has_a_hash(release):
    noise = {"kind": "symmetric", "rate": 0.3, "seed": 1}
    plain, _ = open_splits(config_of(release), "training", "validation")
    training, validation = open_splits(
        config_of(release, data__label_noise=noise), "training", "validation"
    )
    assert training.edits and validation.edits is None
    before, after = plain.columns(), training.columns()
    rows = np.flatnonzero(before["expression"] != after["expression"])
    assert 0 < len(rows) < 30
    lines = [f"{before['id'][i]},{plain.classes[after['expression'][i]]}\n" for i in rows]
    assert dict(training.edits.summary) == {
        "ignored": 0,
        "relabelled": 0,
        "label_noise": len(rows),
        "label_noise_sha256": hashlib.sha256("".join(sorted(lines)).encode()).hexdigest(),
    }


def test_relabelled_faces_lose_their_votes(tmp_path):
    layout_folders.fer_plus_pixels(tmp_path / "release")
    (tmp_path / "r.csv").write_text("id,label\nFER2013Train/fer0000000.png,fear\n")
    config = config_of(tmp_path, data__name="fer_plus", data__relabel=str(tmp_path / "r.csv"))
    config.data.soft_labels = True
    (split,) = open_splits(config, "training")
    columns = split.columns()
    row = columns["id"].tolist().index("FER2013Train/fer0000000.png")
    for name in ("votes", "expression_distribution"):
        lost = np.isnan(columns[name]).all(axis=1)
        assert np.flatnonzero(lost).tolist() == [row]
    targets, _ = load_targets(config, split)
    np.testing.assert_array_equal(targets["expression_distribution"][row], np.eye(8)[4])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("ignore", None, "No such file"),
        ("ignore", "face\na.jpg\n", "no column id; it has face"),
        ("ignore", "id\na.jpg\nb.jpg\n", "2 of 2 ids of .* are not in the data; ids are those of"),
        ("relabel", "id\na.jpg\n", "no column label"),
        ("relabel", "id,label\nID,glad\n", "'glad' is none of neutral, happiness, "),
        ("relabel", "id,label\nID,3\n", "'3' is none of neutral, happiness, "),
        ("relabel", "id,label\nID,fear\nID,anger\n", "line 3: another label of "),
    ],
)
def test_bad_lists_are_one_line(release, tmp_path, key, text, message):
    path = tmp_path / "list.csv"
    if text is not None:
        (split,) = open_splits(config_of(release), "training")
        path.write_text(text.replace("ID", split.columns("id")["id"][0]))
    with pytest.raises(UserError, match=message) as error:
        open_splits(config_of(release, **{f"data__{key}": str(path)}), "training")
    assert str(path) in str(error.value) and "\n" not in str(error.value)
