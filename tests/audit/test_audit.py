"""The audit finds planted defects, and nothing else, and its lists can be used by a config."""

from __future__ import annotations

import csv
import io
import json
import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from affect_jax.audit import checks, copies, out_of_fold
from affect_jax.audit.__main__ import main
from affect_jax.config import defaults
from affect_jax.core.labels import EXPRESSIONS, classes
from affect_jax.data import worker_processes
from affect_jax.data.dataset import open_splits
from affect_jax.data.label_edits import read_lists
from affect_jax.facs.action_units import PROTOTYPES, UNITS
from affect_jax.main import parse_flags
from affect_jax.metrics.predictions import Predictions, write_predictions
from affect_jax.train.experiment import load_registries
from tests.conftest import REPOSITORY
from tests.releases import HEADER, write_release

NUM_BASES, PLANTED = 700, 200
SIDE = 64


def draw_face(random: np.random.Generator, common: np.ndarray) -> np.ndarray:
    """An image with the spectrum of a photograph, and much in common with all others."""
    image = 2 * common
    for size in (4, 8, 16, 32):
        noise = random.normal(0, 1 / np.sqrt(size), (size, size, 3))
        image = image + cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 40 * image, 0, 255).astype(np.uint8)


def encode(image: np.ndarray, quality: int, side: int = SIDE) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).resize((side, side)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def create_files() -> dict[str, bytes]:
    """Faces `KIND/BASE.jpg`: `base`, and 200 of each kind of copy, each of another base."""
    random = np.random.default_rng(0)
    common = draw_face(random, np.zeros((SIDE, SIDE, 3))) / 40 - 3.2
    files = {}
    for base in range(NUM_BASES):
        image = draw_face(random, common)
        files[f"base/{base}.jpg"] = encode(image, 90)
        quality, side = int(random.integers(40, 96)), int(random.integers(40, 150))
        if base < PLANTED:
            files[f"identical/{base}.jpg"] = files[f"base/{base}.jpg"]
        elif base < 2 * PLANTED:
            files[f"re-encoded/{base}.jpg"] = encode(image, quality, side)
        elif base < 3 * PLANTED:
            files[f"mirrored/{base}.jpg"] = encode(image[:, ::-1], quality, side)
    return files


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> pathlib.Path:
    """Every third face is in the validation split; 50 happy faces have a negative valence."""
    folder = tmp_path_factory.mktemp("audit")
    rows: dict[str, list] = {"training": [], "validation": []}
    for i, (name, content) in enumerate(create_files().items()):
        path = folder / "Manually_Annotated_Images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        side = Image.open(io.BytesIO(content)).width
        valence = (-0.5 if i < 400 else 0.5) if i % 8 == 1 else 0
        split = "validation" if i % 3 == 0 else "training"
        rows[split].append((name, 0, 0, side, side, "", i % 8, valence, 0))
    for split, table in rows.items():
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *table])
    return folder


def audit(release: pathlib.Path, out: pathlib.Path, *flags: str) -> int:
    folders = [f"--manual_dir={release}", f"--config.data.data_dir={release / 'data'}"]
    return main(
        [
            *folders,
            "--config.data.image_size=64",
            "--config.data.crop_size=56",
            f"--out={out}",
            *flags,
        ]
    )


def read_list(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def audited(release) -> pathlib.Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_processes, "MIN_ITEMS_FOR_WORKERS", 10_000)
        assert audit(release, release / "out") == 0
    return release / "out"


def test_planted_copies_are_found_and_no_others(audited):
    found = read_list(audited / "copies.csv")
    for kind in ("identical", "re-encoded", "mirrored"):
        pairs = [(row["id"], row["other_id"]) for row in found if row["kind"] == kind]
        planted = [{f"base/{i}.jpg", f"{kind}/{i}.jpg"} for i in range(NUM_BASES)]
        assert len(pairs) >= 0.95 * PLANTED
        assert all(set(pair) in planted for pair in pairs)
    # The copy in the training split is listed, and pairs between splits come first.
    across = [row["split"] != row["other_split"] for row in found]
    assert across == sorted(across, reverse=True) and 0 < sum(across) < len(across)
    assert all(row["split"] == "training" for row in found[: sum(across)])
    assert json.loads((audited / "audit.json").read_text())["faces"] == NUM_BASES + 3 * PLANTED


def test_contradictory_labels_are_found(audited):
    found = read_list(audited / "valence_arousal.csv")
    assert len(found) == 50 and {row["expression"] for row in found} == {"happiness"}


def test_page_shows_the_first_faces_of_each_list(audited):
    page = (audited / "audit.html").read_text()
    shown = {path.stem: min(50, len(read_list(path))) for path in audited.glob("*.csv")}
    assert page.count("<figure>") == sum(shown.values()) >= 100
    assert page.count("<img ") == sum(shown.values()) + shown["copies"]
    assert "bootstrap" not in page


@pytest.mark.parametrize("swapped", [False, True])
def test_wrong_labels_and_a_wrong_class_order_are_found(release, audited, swapped, monkeypatch):
    monkeypatch.setattr(worker_processes, "MIN_ITEMS_FOR_WORKERS", 10_000)
    random = np.random.default_rng(0)
    with (release / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = np.array([int(row["expression"]) for row in rows])
    wrong = random.choice(len(rows), 60, replace=False)
    truth = labels.copy()
    truth[wrong] = (labels[wrong] + random.integers(1, 8, 60)) % 8
    probabilities = random.dirichlet(np.ones(8), len(rows)) * 0.1
    probabilities[np.arange(len(rows)), truth] += 0.9
    if swapped:
        probabilities = probabilities[:, [0, 6, 5, 4, 3, 2, 1, 7]]
    ids = np.array([row["subDirectory_filePath"] for row in rows])
    table = Predictions(ids, classes(8), labels, probabilities)
    write_predictions(table, release / "predictions.parquet")
    out = release / f"predictions{swapped}"
    assert audit(release, out, f"--predictions={release / 'predictions.parquet'}") == 0
    results = json.loads((out / "audit.json").read_text())
    if swapped:
        assert "happiness is anger" in results["class order"]
        assert "another order" in (out / "audit.html").read_text()
        return
    assert results["class order"] is None
    found = {row["id"]: row["label"] for row in read_list(out / "wrong_labels.csv")}
    correct = [found.get(ids[row]) == EXPRESSIONS[truth[row]] for row in wrong]
    assert np.mean(correct) >= 0.95 and len(found) == sum(correct)
    assert results["estimated share of wrong labels"] == pytest.approx(60 / len(rows), rel=0.05)
    config = defaults()
    config.data.ignore, config.data.relabel = str(out / "copies.csv"), str(out / "wrong_labels.csv")
    ignored, relabelled = read_lists(config)
    assert relabelled == found and len(ignored) == len(read_list(out / "copies.csv"))


def create_faces(count: int) -> checks.Faces:
    """Faces without defects."""
    random = np.random.default_rng(0)
    return {
        "id": np.arange(count).astype(str),
        "split": np.repeat("training", count),
        "expression": np.repeat("happiness", count),
        "group": np.arange(count).astype(str),
        "valence": np.full(count, np.nan),
        "arousal": np.full(count, np.nan),
        "landmarks": np.full((count, 68, 2), np.nan),
        "aspect": np.repeat(1.25, count),
        "action_units": np.full((count, len(UNITS)), np.nan),
        "sharpness": random.uniform(90, 110, count),
        "colour": np.repeat(20.0, count),
        "box": np.tile([10.0, 10, 125, 100], (count, 1)),
        "detected": np.ones(count, int),
    }


def test_each_defect_of_labels_and_images_is_found_once():
    faces = create_faces(100)
    assert not any(len(finding.rows) for finding in checks.check_faces(faces, 100).values())
    faces["split"][0], faces["group"][0] = "validation", "7"
    faces["valence"][1] = -0.4
    faces["expression"][2], faces["arousal"][2] = "anger", -0.4
    for row, emotion in enumerate(("happiness", "sadness", "contempt"), 3):
        faces["action_units"][row] = np.isin(UNITS, PROTOTYPES[emotion])
    faces["expression"][6], faces["action_units"][6] = "neutral", np.isin(UNITS, (6, 12))
    faces["box"][8] = (10, 10, 50, 40)
    faces["sharpness"][9] = 10
    faces["colour"][10] = 0.2
    faces["box"][11] = (-10, 10, 125, 100)
    faces["aspect"][12] = 1.0  # an image without a crop
    faces["aspect"][13] = 1.1  # a crop that was clipped at the right
    faces["landmarks"][14] = 50
    faces["landmarks"][15:17] = 50
    faces["landmarks"][15, 3, 1], faces["landmarks"][16, 3, 0] = 120, -15
    faces["detected"][17] = 0
    found = {k: x.rows.tolist() for k, x in checks.check_faces(faces, 100).items()}
    assert found == {
        "leakage": [7],
        "valence_arousal": [1, 2],
        "action_units": [4, 6],
        "small": [8],
        "blurred": [9],
        "grey": [10],
        "clipped": [13, 11],
        "landmarks": [15, 16],
        "no_face": [17],
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> tuple[pathlib.Path, dict[str, str], dict[str, str]]:
    """An audited set of rendered faces with 5 % wrong labels, and the wrong and right labels."""
    folder = tmp_path_factory.mktemp("rendered")
    flags = [f"--config={REPOSITORY / 'configs/resnet18_weighted.py'}:synthetic_faces"]
    flags += [f"--config.data.data_dir={folder}", "--config.data.image_size=64"]
    flags += ["--config.data.crop_size=56", "--config.data.options.skew=balanced"]
    flags += ["--config.data.options.num_training=400", "--config.data.options.num_validation=100"]
    load_registries()
    splits = open_splits(parse_flags(flags).config, "training", "validation")
    columns = [split.columns("id", "expression") for split in splits]
    labels = {id: c for split in columns for id, c in zip(*split.values(), strict=True)}
    random = np.random.default_rng(0)
    wrong = {str(id): random.integers(1, 8) for id in random.choice([*labels], 25, replace=False)}
    right = {id: EXPRESSIONS[labels[id]] for id in wrong}
    wrong = {id: EXPRESSIONS[(labels[id] + shift) % 8] for id, shift in wrong.items()}
    with (folder / "relabel.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "label"), *wrong.items()])
    flags += [f"--config.data.relabel={folder / 'relabel.csv'}", f"--out={folder}"]
    assert main([*flags, "--network=ready", "--detector=libfacedetection"]) == 0
    return folder, wrong, right


@pytest.mark.slow
def test_wrong_labels_are_found_without_predictions(rendered):
    folder, wrong, right = rendered
    found = read_list(folder / "wrong_labels.csv")
    assert np.mean([right.get(row["id"]) == row["label"] for row in found]) >= 0.9
    assert {
        row["id"]: row["expression"] for row in found if row["id"] in wrong
    }.items() <= wrong.items()
    assert len({row["id"] for row in found} & wrong.keys()) >= 0.9 * len(wrong)
    share = json.loads((folder / "audit.json").read_text())["estimated share of wrong labels"]
    assert share == pytest.approx(0.05, abs=0.015)


@pytest.mark.slow
def test_detector_finds_most_rendered_faces(rendered, audited):
    assert len(read_list(rendered[0] / "no_face.csv")) <= 10
    assert not (audited / "no_face.csv").exists()  # without the flag


def test_faces_of_a_group_are_in_one_fold():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    labels = groups % 2
    features = np.eye(40)[groups] + random.normal(0, 0.01, (200, 40))
    alone = out_of_fold.predict_out_of_fold(features, labels, np.arange(200))
    assert (alone.argmax(axis=1) == labels).all()  # a feature names the group
    together = out_of_fold.predict_out_of_fold(features, labels, groups)
    assert (together.argmax(axis=1) == labels).mean() < 0.8


def test_faces_of_a_group_are_no_copies():
    random = np.random.default_rng(0)
    image = draw_face(random, np.zeros((SIDE, SIDE, 3)))[::2, ::2, 0]
    faces = [image, image // 2 + 20, image[::-1], image[:, ::-1]]
    descriptors = np.stack([copies.describe(face) for face in faces])
    found = copies.find_copies(descriptors, np.arange(4), np.repeat("", 4))
    assert [values.tolist() for values in found[:3]] == [[1, 3], [0, 0], ["re-encoded", "mirrored"]]
    for digests in (np.arange(4), np.zeros(4)):
        assert not len(copies.find_copies(descriptors, digests, np.repeat("video", 4))[0])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--predictions=missing.csv"], "missing.csv: no such file"),
        (["--config.data.nam=x"], "no such key"),
        (["--workers=2"], "workers"),
        (["--config=missing.py"], "missing.py"),
        (["--predictions=ids.csv"], "--predictions: no id is that of a face"),
        (["--predictions=hard.csv"], "hard.csv: needs probabilities"),
        (["--predictions=ids.csv", "--network=ready"], "not allowed with argument"),
        (["--network=nothing"], "nothing: contains no run"),
        (["--detector=dlibb"], "did you mean 'dlib'"),
    ],
)
def test_bad_input_is_one_line(flags, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_release(tmp_path, training=20, validation=10)
    (tmp_path / "ids.csv").write_text("id,expression,p_happiness,p_sadness\nx,sadness,0.5,0.5\n")
    (tmp_path / "hard.csv").write_text("id,expression,predicted\n0/training0000.jpg,0,0\n")
    data = [f"--manual_dir={tmp_path}", "--config.data.image_size=40", "--config.data.crop_size=40"]
    assert main([*data, *flags]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("affect_jax: ") and message in error
    assert not (tmp_path / "audit").exists()


def test_command(tmp_path):
    write_release(tmp_path, training=40, validation=10)
    command = [sys.executable, "-m", "affect_jax.audit", f"--manual_dir={tmp_path}"]
    result = subprocess.run(
        [*command, "--config.data.image_size=40", "--config.data.crop_size=40"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert result.returncode == 0, result.stderr
    assert "Unusually blurred faces" in result.stdout and "audit/audit.html" in result.stdout
    assert (tmp_path / "audit" / "audit.html").is_file()
