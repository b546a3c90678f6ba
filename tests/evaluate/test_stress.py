"""Stress tests: only the tested factor changes, and only its curve falls."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from affect_jax.core import labels
from affect_jax.core.batch import make_targets
from affect_jax.core.paths import READY_FOLDER
from affect_jax.data.affectnet import affectnet
from affect_jax.data.decoding import decode_faces
from affect_jax.data.tfds_builder import open_split
from affect_jax.evaluate import __main__ as command
from affect_jax.evaluate import stress
from affect_jax.facs.render import random_face
from tests.releases import write_release
from tests.trained_runs import create_config, write_run

ACCURACY = "categorical.top1.original.accuracy"


def decode(images: np.ndarray) -> dict[str, np.ndarray]:
    """Predicts the class that is in the first pixel, unless the second exceeds 2."""
    shown = images[:, 0, 0, 0].astype(int)
    wrong = images[:, 0, 1, 0] > 2
    return {"expression": np.eye(8, dtype=np.float32)[(shown + wrong) % 8]}


def test_score_falls_only_in_the_factor_that_the_network_depends_on(monkeypatch):
    """The images encode class, blur and yaw in their pixels."""

    def draw(intensities, parameters, size):
        image = np.zeros((size, size, 3), np.uint8)
        image[0, :3, 0] = len(drawn) % 16 % 8, parameters.blur, 99 + 99 * parameters.yaw
        drawn.append(parameters)
        return image, np.zeros((68, 2))

    drawn = []
    monkeypatch.setattr(random_face, "render_face", draw)
    monkeypatch.setattr(stress, "RENDERED_FACTORS", {"blur": (0.0, 2.0, 4.0), "yaw": (-0.3, 0.3)})
    monkeypatch.setattr(stress, "map_ordered", lambda function, items, *_: map(function, items))
    monkeypatch.setattr(stress, "render_record", render_without_compression)
    monkeypatch.setattr(stress, "decode_jpeg", lambda jpeg, image: np.copyto(image, jpeg))
    levels = stress.render_levels(16, 16, labels.classes())
    suite = stress.score_levels(levels, labels.classes(), decode, bootstrap=50)
    curves = {factor: [row["scores"][ACCURACY] for row in rows] for factor, rows in suite.items()}
    assert curves == {"": [1], "blur": [1, 1, 0], "yaw": [1, 1]}
    worst = suite["blur"][2]
    assert worst["changes"][ACCURACY] == -1
    assert worst["changes_intervals"][ACCURACY] == pytest.approx((-1, -1))


class Pixels:
    """Pixels in place of an encoded image."""

    def __init__(self, image: np.ndarray):
        self.getvalue = lambda: image


def render_without_compression(index: int, **options) -> dict:
    face = random_face.sample_face(options.pop("seed"), index, **options)
    values = {"valence": face.valence, "arousal": face.arousal, "action_units": face.action_units}
    return {"id": index, "image": Pixels(face.image), "expression": face.expression, **values}


@pytest.mark.parametrize("factor", stress.RENDERED_FACTORS)
def test_all_other_parameters_of_a_face_are_the_same_at_each_level(factor, monkeypatch):
    calls = []

    def record(intensities, parameters, size):
        calls.append((intensities, vars(parameters)))
        return np.zeros((size, size, 3), np.uint8), np.zeros((68, 2))

    monkeypatch.setattr(random_face, "render_face", record)
    options = {"split": "validation", "skew": "balanced", "size": 16}
    sampled = random_face.sample_face(0, 4, **options)
    first = calls[0]
    for level in stress.RENDERED_FACTORS[factor]:
        face = random_face.sample_face(0, 4, **options, changes={factor: level})
        assert face.expression == sampled.expression
        units, parameters = calls[-1]
        if factor == "intensity":
            np.testing.assert_allclose(units, np.minimum(level * first[0], 1))
        else:
            np.testing.assert_array_equal(units, first[0])
            assert parameters[factor] == level
        for name in parameters.keys() - {factor}:
            np.testing.assert_array_equal(parameters[name], first[1][name], err_msg=name)


def test_images_change_as_their_factor_says():
    smooth = np.linspace(40, 200, 48).astype(np.uint8)
    image = np.stack(np.broadcast_arrays(smooth[:, None], smooth, 90), axis=-1).astype(np.uint8)
    changes = {name: function for name, (_, function) in stress.IMAGE_FACTORS.items()}
    for name, level in (("zoom", 1.0), ("shift_right", 0.0), ("resolution", 48), ("noise", 0)):
        np.testing.assert_array_equal(changes[name](image, level), image, err_msg=name)
    np.testing.assert_array_equal(changes["mirror"](changes["mirror"](image, None), None), image)
    right, down = changes["shift_right"](image, 0.25), changes["shift_down"](image, 0.25)
    np.testing.assert_array_equal(right[:, 12:], image[:, :36])
    np.testing.assert_array_equal(down[12:], image[:36])
    wide = changes["zoom"](image, 0.5)
    np.testing.assert_allclose(wide[12:36, 12:36], image[::2, ::2], atol=4)
    for name, (levels, change) in stress.IMAGE_FACTORS.items():
        for level in levels:
            changed = change(image, level)
            assert changed.shape == image.shape and changed.dtype == np.uint8, name
    errors = [np.abs(changes["noise"](image, std) - image.astype(float)).std() for std in (5, 10)]
    assert 1.8 < errors[1] / errors[0] < 2.2


def test_margins_are_those_of_preparation(tmp_path, logged_warnings):
    release = tmp_path / "release"
    write_release(release, training=8, validation=8)
    for name in ("training.csv", "validation.csv"):
        table = (release / name).read_text()
        (release / name).write_text(table.replace(",0,0,48,48,", ",12,12,24,24,"))
    images = {}
    for margin in (0.5, 0.25, 0.0):
        options = {"image_size": 40, "margin": margin, "num_workers": 1}
        builder = affectnet(manual_dir=str(release), data_dir=str(tmp_path), **options)
        split = open_split(builder, "validation")
        images[margin] = decode_faces(split.records, range(8), 40)
    columns = {"id": split.columns("id")["id"][::-1]}
    unchanged = stress.Faces("", None, images[0.0][::-1], columns, {})
    levels = list(stress.change_margins(unchanged, builder, "validation"))
    assert [faces.level for faces in levels] == list(stress.MARGINS)
    shown = {faces.level: faces.images[::-1] for faces in levels}
    for margin, expected in images.items():
        np.testing.assert_array_equal(shown[margin], expected)
    assert (shown[0.1] != shown[0.0]).any()
    shutil.rmtree(release)
    assert not list(stress.change_margins(unchanged, builder, "validation"))
    assert "crop margins are not tested" in logged_warnings[-1]


def test_faces_without_a_class_of_the_network_are_not_scored(monkeypatch):
    columns = {"id": np.arange(2).astype(str)}
    targets = make_targets({"expression": np.full(2, -1)})
    faces = stress.Faces("", None, np.zeros((2, 16, 16, 3), np.uint8), columns, targets)
    suite = stress.score_levels([faces], labels.classes(), decode, bootstrap=10)
    assert suite[""][0]["scores"] == {}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stress")
    config = create_config(heads=("expression",), data__data_dir=str(folder / "data"))
    config.data.options = {"num_training": 8, "num_validation": 12}
    return write_run(folder / "run", config)


@pytest.mark.slow
def test_command_writes_curves_of_every_factor(run, capsys):
    words = ["--stress", f"--workdir={run}", "--step=last", "--faces=4", "--bootstrap=10"]
    assert command.main(words) == 0
    content = json.loads((run / "stress/stress.json").read_text())
    rendered, changed = content["suites"].values()
    assert list(content["suites"]) == ["rendered faces", "faces of the validation split"]
    assert rendered.keys() == {"", *stress.RENDERED_FACTORS}
    assert changed.keys() == {"", *stress.IMAGE_FACTORS}
    assert content["about"]["faces"] == dict.fromkeys(content["suites"], 4)
    for rows in (rendered | changed).values():
        assert all(len(row["scores"]) == len(row["changes_intervals"]) == 2 for row in rows)
    page = (run / "stress/stress.html").read_text()
    assert page.count("<figure") == len(stress.RENDERED_FACTORS) + len(stress.IMAGE_FACTORS)
    assert capsys.readouterr().out.split()[1:] == [
        str(run / "stress" / f"stress.{end}") for end in ("json", "html")
    ]


def test_run_without_its_data_is_tested_on_rendered_faces(tmp_path, logged_warnings, monkeypatch):
    config = create_config(heads=("expression", "valence_arousal"))
    config.data.name, config.data.options = "affectnet", {}
    config.data.manual_dir = str(tmp_path / "gone")
    write_run(tmp_path / "run", config)
    monkeypatch.setattr(stress, "RENDERED_FACTORS", {"blur": (4.0,)})
    monkeypatch.setattr(stress, "map_ordered", lambda function, items, *_: map(function, items))
    content = stress.run_stress_tests(
        tmp_path / "run", "last", tmp_path / "out", num_faces=4, bootstrap=5
    )
    assert content["about"]["faces"] == {"rendered faces": 4}
    assert list(content["suites"]) == ["rendered faces"]
    assert "only rendered faces are tested" in logged_warnings[-1]
    assert "gone" in logged_warnings[-1]


def test_model_in_the_package_is_tested_without_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stress, "RENDERED_FACTORS", {"blur": (4.0,)})
    monkeypatch.setattr(stress, "map_ordered", lambda function, items, *_: map(function, items))
    monkeypatch.chdir(tmp_path)
    assert command.main(["--stress", "--faces=4", "--bootstrap=5"]) == 0
    assert capsys.readouterr().err.startswith("no --workdir: using the model in the package")
    about = json.loads((tmp_path / "stress/stress.json").read_text())["about"]
    assert about["run"] == str(READY_FOLDER)
    assert "ready, one factor at a time" in (tmp_path / "stress/stress.html").read_text()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--workdir=r", "pass --predictions and --out, or --stress"),
        ("--predictions=p.csv", "pass --predictions and --out, or --stress"),
        ("--stress --workdir=r --out=x", "pass --predictions and --out, or --stress"),
        ("--stress --workdir=r --faces=0", "--draws and --faces must be 1 or more"),
        ("--stress --workdir=nowhere", "nowhere: contains no run"),
    ],
)
def test_wrong_flags_are_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.main(words.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
