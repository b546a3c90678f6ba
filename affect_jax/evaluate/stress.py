"""Stress tests of a checkpoint: scores of the same faces while one factor changes.

*Rendered faces* are sampled once. A level of a factor sets one parameter of every face; all other
parameters, and the noise of its labels, stay those of the face. *Faces of the evaluation split* are
changed as images, and cropped from their source images with other margins. To test another factor,
add it to one of the two dictionaries.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import simplejpeg
from absl import logging

from affect_jax.core import labels, parallel
from affect_jax.core.batch import make_targets
from affect_jax.core.errors import UserError
from affect_jax.core.paths import write_atomically, writing_to
from affect_jax.core.registry import import_submodules
from affect_jax.data.dataset import open_splits, prepare_dataset
from affect_jax.data.decoding import decode_jpeg
from affect_jax.data.layouts import LayoutBuilder
from affect_jax.data.synthetic_faces import render_record
from affect_jax.data.tfds_builder import FacesBuilder
from affect_jax.data.worker_processes import map_ordered
from affect_jax.evaluate.evaluator import Evaluator, create_output_function, create_predictions
from affect_jax.evaluate.scoring import GROUP_SCORES
from affect_jax.facs.render.parameters import GLASSES, HAIR_STYLES, OCCLUSIONS
from affect_jax.metrics import protocol, resampling
from affect_jax.run.trained_network import load_network

RENDERED_FACTORS: dict[str, tuple[Any, ...]] = {
    "intensity": (0.25, 0.5, 0.75, 1.0, 1.25),
    "skin_tone": (0.0, 0.25, 0.5, 0.75, 1.0),
    "age": (0.0, 0.25, 0.5, 0.75, 1.0),
    "makeup": (0.0, 0.33, 0.67, 1.0),
    "hair": HAIR_STYLES,
    "glasses": GLASSES,
    "occlusion": OCCLUSIONS,
    "light": ((-1.0, -0.35), (1.0, -0.35), (0.0, -0.95), (0.0, 0.0), (0.0, 0.25)),
    "brightness": (0.4, 0.6, 0.8, 1.0),
    "blur": (0.0, 1.0, 2.0, 3.0, 4.0),
    "size": (40.0, 50.0, 60.0, 70.0),
    "yaw": (-0.3, -0.15, 0.0, 0.15, 0.3),
    "roll": (-0.4, -0.2, 0.0, 0.2, 0.4),
}
"""Levels of the fields of `FaceParameters`, and of a factor of the intensities of all units."""


def _warp(image: np.ndarray, zoom: float = 1.0, right: float = 0.0, down: float = 0.0):
    """Zooms about the centre and shifts by fractions of the side; border pixels are repeated."""
    size = len(image)
    margin = (size - 1) / 2 * (1 - zoom)
    matrix = np.array([[zoom, 0, margin + right * size], [0, zoom, margin + down * size]])
    return cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)


def _reduce(image: np.ndarray, side: int) -> np.ndarray:
    small = cv2.resize(image, (min(side, len(image)),) * 2, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[:2], interpolation=cv2.INTER_LINEAR)


def _add_noise(image: np.ndarray, std: float) -> np.ndarray:
    random = np.random.default_rng(int(image.sum()))  # the same for a face at every level
    noisy = image + std * random.standard_normal(image.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


IMAGE_FACTORS: dict[str, tuple[tuple[Any, ...], Callable[[np.ndarray, Any], np.ndarray]]] = {
    "zoom": ((0.7, 0.85, 1.15, 1.3), _warp),  # below 1: a wider crop
    "shift_right": ((-0.1, -0.05, 0.05, 0.1), lambda image, x: _warp(image, right=x)),
    "shift_down": ((-0.1, -0.05, 0.05, 0.1), lambda image, x: _warp(image, down=x)),
    "resolution": ((16, 24, 32, 48, 64, 96), _reduce),  # side, pixels
    "jpeg_quality": (
        (5, 10, 20, 40, 80),
        lambda image, x: simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(image, x)),
    ),
    "noise": ((5, 10, 20, 40), _add_noise),  # standard deviation, where white is 255
    "mirror": (("mirrored",), lambda image, _: np.ascontiguousarray(image[:, ::-1])),
}
"""Levels, and a function of image, uint8 [S, S, 3], and level."""

MARGINS = (0.0, 0.1, 0.25, 0.5)
"""Fractions of a box that are added on each side before cropping, as by `data.options.margin`."""


class Faces(NamedTuple):
    """N faces at one level of a factor; `columns` and `targets` as for `create_predictions`."""

    factor: str  # "" if nothing is changed
    level: Any
    images: np.ndarray  # uint8 [N, S, S, 3]
    columns: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]


def render_levels(num_faces: int, image_size: int, classes: Sequence[str]) -> Iterator[Faces]:
    """Renders the first validation faces of `synthetic_faces`, unchanged and at every level.

    **Arguments:** `classes`: the network's; faces of other expressions have no label.
    """
    levels = [("", None), *((f, x) for f, xs in RENDERED_FACTORS.items() for x in xs)]
    items, total = itertools.product(levels, range(num_faces)), len(levels) * num_faces
    render = functools.partial(_render, size=image_size)
    records = iter(map_ordered(render, items, total, "stress tests: rendered faces"))
    found = [labels.find_class(name, classes) for name in labels.classes()]
    ids = np.array([-1 if name is None else classes.index(name) for name in found])
    for factor, level in levels:
        rendered = [next(records) for _ in range(num_faces)]
        images = _decode(rendered, image_size)
        names = ("id", "expression", "valence", "arousal", "action_units")
        columns = {name: np.array([record[name] for record in rendered]) for name in names}
        columns["expression"] = ids[columns["expression"]]
        targets = make_targets(columns, len(classes))
        yield Faces(factor, level, images, {"id": columns["id"]}, targets)


def _decode(records: Sequence[Mapping[str, Any]], image_size: int) -> np.ndarray:
    images = np.empty((len(records), image_size, image_size, 3), np.uint8)
    for record, image in zip(records, images, strict=True):
        decode_jpeg(record["image"].getvalue(), image)
    return images


def _render(item: tuple[tuple[str, Any], int], size: int) -> dict[str, Any]:
    (factor, level), index = item
    options = {"skew": "balanced", "size": size, "changes": {factor: level} if factor else {}}
    return render_record(index, seed=0, split="validation", **options)


def change_levels(unchanged: Faces) -> Iterator[Faces]:
    """Yields faces unchanged, then at every level of `IMAGE_FACTORS`."""
    yield unchanged
    for factor, (levels, change) in IMAGE_FACTORS.items():
        for level in levels:
            images = np.stack([change(image, level) for image in unchanged.images])
            yield unchanged._replace(factor=factor, level=level, images=images)


def change_margins(unchanged: Faces, builder: FacesBuilder, split: str) -> Iterator[Faces]:
    """Yields faces cropped from their source images with all `MARGINS`, if the images are there."""
    if not isinstance(builder, LayoutBuilder):
        return
    try:
        crops = builder.crop_again(split, unchanged.columns["id"].tolist(), MARGINS)
        for margin, records in zip(MARGINS, crops, strict=True):
            images = _decode(records, unchanged.images.shape[1])
            yield unchanged._replace(factor="margin", level=margin, images=images)
    except UserError as error:
        logging.warning("crop margins are not tested: %s", error)


def score_levels(
    levels: Iterable[Faces],
    classes: Sequence[str],
    predict: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    bootstrap: int,
) -> dict[str, list[dict[str, Any]]]:
    """Scores faces at all levels, which have the same bootstrap samples.

    **Arguments:** `levels`: the unchanged faces come first; `predict`: images, uint8 [N, S, S, 3],
    to outputs, see `predict_step`; `bootstrap`: number of bootstrap samples; 0: no intervals.

    **Returns:** a list of levels by factor. A level has its `scores`, the `changes` from the
    unchanged faces, and `scores_intervals` and `changes_intervals`, each by name of the score.
    """
    factors: dict[str, list[dict[str, Any]]] = {}
    base: Any = ()
    for faces in levels:
        table = create_predictions(faces.columns, classes, faces.targets, predict(faces.images))
        values = protocol.score(table, draws=1).values
        values = {name: values[name] for name in GROUP_SCORES if name in values}
        sampled = protocol.bootstrap_scores(table, bootstrap, 0) if bootstrap and values else {}
        base = base or (values, sampled)
        changes = {name: value - base[0][name] for name, value in values.items()}
        differences = {name: sampled[name] - base[1][name] for name in values if sampled}
        intervals = resampling.compute_intervals(changes, differences, differences=True)
        entry = {
            "scores": protocol.nan_to_none(values),
            "scores_intervals": resampling.compute_intervals(values, sampled),
            "changes": protocol.nan_to_none(changes),
            "changes_intervals": intervals,
        }
        factors.setdefault(faces.factor, []).append({"level": faces.level, **entry})
    return factors


def run_stress_tests(
    run: str | os.PathLike[str], step: str, out: pathlib.Path, *, num_faces: int, bootstrap: int
) -> dict[str, Any]:
    """Tests a checkpoint of a run, or the model `ready`, and writes `out/stress.json`.

    **Arguments:** `num_faces`: rendered faces, and faces of the evaluation split at most.

    **Returns:** the content of the file.

    **Raises:** `UserError` if the checkpoint cannot be used, or no face has a label.
    """
    import_submodules("affect_jax.data")  # registers the datasets
    trained = load_network(run, step)
    config = trained.config
    size, classes, name = config.data.image_size, trained.classes, config.evaluation.split
    suites: dict[str, Any] = {"rendered faces": render_levels(num_faces, size, classes)}
    about: dict[str, Any] = {
        "run": str(trained.folder.absolute()),
        "checkpoint_step": trained.step,
        "faces": dict.fromkeys(suites, num_faces),
        "bootstrap": bootstrap,
        "machine": parallel.describe_machine(),
    }
    try:
        (split,) = open_splits(config, name)
        evaluator = Evaluator(config, trained.network, split)
        rows = np.sort(np.random.default_rng(0).permutation(len(split))[:num_faces])
        tables = evaluator.columns, evaluator.targets
        columns, targets = ({name: x[rows] for name, x in table.items()} for table in tables)
        unchanged = Faces("", None, evaluator.load_faces(rows), columns, targets)
        margins = change_margins(unchanged, prepare_dataset(config), name)
    except UserError as error:  # such as a run of imported weights
        logging.warning("only rendered faces are tested: %s", error)
    else:
        suite = f"faces of the {name} split"
        suites[suite] = itertools.chain(change_levels(unchanged), margins)
        about["faces"][suite], about["fingerprint"] = len(rows), split.fingerprint
    compute_outputs = create_output_function(config, trained.network)
    predict = functools.partial(compute_outputs, trained.variables)
    scored = {s: score_levels(faces, classes, predict, bootstrap) for s, faces in suites.items()}
    scored = {suite: factors for suite, factors in scored.items() if factors[""][0]["scores"]}
    if not scored:
        raise UserError(f"{run}: no face has a label to score a prediction with")
    content = {"about": about, "suites": scored}
    with writing_to(out), write_atomically(out / "stress.json") as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    return content
