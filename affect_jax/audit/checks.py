"""The checks of an audit: each finds faces, the worst first."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import Any, NamedTuple

import cv2
import numpy as np
import tqdm

from affect_jax.audit import copies, out_of_fold
from affect_jax.config import Config
from affect_jax.core.errors import UserError
from affect_jax.core.labels import canonical_name, find_class
from affect_jax.data.dataset import load_targets, open_splits, prepare_dataset
from affect_jax.data.decoding import decode_faces
from affect_jax.data.record_reader import join_records, split_names
from affect_jax.data.worker_processes import map_ordered
from affect_jax.facs.action_units import ACTIVE_THRESHOLD, PROTOTYPES, UNITS
from affect_jax.metrics.class_order import describe_wrong_order
from affect_jax.metrics.confident_learning import find_wrong_labels
from affect_jax.metrics.predictions import Predictions
from affect_jax.predict.detection import DETECTORS, Detector
from affect_jax.predict.predictor import Predictor

MEASUREMENTS: Any = np.dtype(
    [("digest", "i8"), ("descriptor", "f4", copies.NUM_COEFFICIENTS), ("sharpness", "f4")]
    + [("colour", "f4"), ("box", "f4", 4), ("detected", "i4")]
)
"""Hash of the JPEG; see `copies.describe`; variance of the Laplacian (Pech-Pacheco et al. 2000);
mean difference of the largest and the smallest channel; box in the source image; number of faces
that the detector finds."""

Faces = dict[str, np.ndarray]
"""Arrays of N faces: columns of the splits, with names of classes and groups ("": none), `split`,
`action_units`, which are estimated if not annotated, and `MEASUREMENTS`."""

BATCH_SIZE = 64  # faces whose features are computed at once

SIGNS = {
    "happiness": (1, 0),
    "sadness": (-1, 0),
    "surprise": (0, 1),
    "fear": (-1, 1),
    "disgust": (-1, 0),
    "anger": (-1, 1),
    "contempt": (-1, 0),
}
"""Signs of valence and arousal, after the circumplex (Russell 1980); 0: any."""


class Finding(NamedTuple):
    """K faces: title, rows int [K], columns of the list, and rows of faces to show beside them."""

    title: str
    rows: np.ndarray
    columns: dict[str, np.ndarray]
    others: np.ndarray | None = None


def read_faces(config: Config, detector: str = "none") -> tuple[Faces, Any]:
    """Prepares a dataset if necessary, and reads all splits, `training` as the last.

    **Arguments:** `detector`: a name in `DETECTORS`.
    """
    DETECTORS[detector]  # raises for another name
    names = sorted(split_names(prepare_dataset(config)), key=lambda name: name == "training")
    splits, parts = open_splits(config, *names), []
    for split in splits:
        targets, _ = load_targets(config, split)
        columns = ("id", "expression", "group", "valence", "arousal", "landmarks", "aspect")
        faces = {"group": np.full(len(split), ""), **split.columns(*columns)}
        units, is_known = targets["action_units"], targets["action_units_mask"]
        faces["action_units"] = np.where(is_known, units, np.nan)
        faces["expression"] = np.array([*split.classes, ""])[faces["expression"]]
        parts.append(faces | {"split": np.full(len(split), split.name)})
    records = join_records(splits)
    measured, rows = np.empty(len(records), MEASUREMENTS), range(len(records))
    measure = functools.partial(_measure, records, config.data.image_size, detector)
    for row, values in enumerate(map_ordered(measure, rows, len(rows), "audit")):
        measured[row] = values
    faces = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return faces | {name: measured[name] for name in MEASUREMENTS.names}, records


@functools.cache
def _create_detector(name: str) -> Detector:
    return DETECTORS.create({"name": name})


def _measure(records: Any, image_size: int, detector: str, row: int) -> tuple[Any, ...]:
    """Returns the `MEASUREMENTS` of a face; runs in a worker process."""
    record, image = records[row], decode_faces(records, [row], image_size)[0]
    digest = hashlib.blake2b(record["image"], digest_size=7).digest()
    thumbnail = cv2.resize(image, (copies.THUMBNAIL_SIZE,) * 2, interpolation=cv2.INTER_AREA)
    descriptor = copies.describe(cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY))
    edges = cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_16S)
    sharpness, colour = cv2.meanStdDev(edges)[1].item() ** 2, np.ptp(thumbnail, axis=2).mean()
    detected = len(_create_detector(detector)(image)[0])
    return int.from_bytes(digest, "big"), descriptor, sharpness, colour, record["box"], detected


def check_copies(faces: Faces) -> Finding:
    """Finds copies: first those between splits, then those with different labels."""
    found = copies.find_copies(faces["descriptor"], faces["digest"], faces["group"])
    same = [faces[name][found[0]] == faces[name][found[1]] for name in ("expression", "split")]
    rows, others, kinds, correlations = (x[np.lexsort([-found[3], *same])] for x in found)
    columns = {"kind": kinds, "correlation": correlations}
    columns |= {f"other_{name}": faces[name][others] for name in ("id", "split", "expression")}
    return Finding("Copies of faces that are not in this list", rows, columns, others)


def check_faces(faces: Faces, image_size: int) -> dict[str, Finding]:
    """Finds leaked groups, contradictory labels and unusual images."""
    group, is_training = faces["group"], faces["split"] == "training"
    is_leaked = is_training & np.isin(group, group[~is_training]) & (group != "")
    sharpness = np.log(np.maximum(faces["sharpness"], 1e-3))
    deviation = 1.4826 * np.median(np.abs(sharpness - np.median(sharpness)))  # robust to outliers
    min_sharpness = np.exp(np.median(sharpness) - max(3 * deviation, np.log(4)))
    x, y, width, height = faces["box"].T
    # Clipping changes the shape of the crop. An aspect of 1 may be that of an image without a crop.
    shape = np.where(faces["aspect"] == 1, 1, faces["aspect"] * height / width)
    clipped = np.max([-x / width, -y / height, 1 - shape, 1 - 1 / shape], axis=0)
    low, high = (find(faces["landmarks"], (1, 2)) / image_size for find in (np.min, np.max))
    outside = np.maximum(-low, high - 1)
    axes, units = _compare_axes(faces), _compare_units(faces)
    findings = {}
    for name, title, values, limit in (
        ("leakage", "Training faces of a person or video of another split", is_leaked, 0),
        ("valence_arousal", "Expression against valence or arousal", axes, 0.3),
        ("action_units", "Expression against action units", units, ACTIVE_THRESHOLD),
        ("small", "Boxes with a side below 48 pixels", -np.minimum(width, height), -48),
        ("blurred", "Unusually blurred faces", -faces["sharpness"], -min_sharpness),
        ("grey", "Faces without colour", -faces["colour"], -1),
        ("clipped", "Boxes of which 5 % or more are outside of the image", clipped, 0.05),
        ("landmarks", "Landmarks outside of the face by 10 % of its side", outside, 0.1),
        ("no_face", "Images in which the detector finds no face", -faces["detected"], -1),
    ):
        rows, values = np.flatnonzero(values > limit), values.astype(float)
        rows = rows[np.argsort(-values[rows], kind="stable")]
        findings[name] = Finding(title, rows, {"value": np.abs(values[rows])})
    return findings


def _compare_axes(faces: Faces) -> np.ndarray:
    """Computes the largest value of the wrong sign of valence and arousal, [N]."""
    values = np.stack([faces["valence"], faces["arousal"]], axis=1)
    signs = [SIGNS.get(canonical_name(name), (0, 0)) for name in faces["expression"].tolist()]
    return np.nan_to_num(-values * signs).max(axis=1)


def _compare_units(faces: Faces) -> np.ndarray:
    """Computes the intensity of another emotion's prototype if no own unit is active, [N]."""
    units, prototypes = faces["action_units"], {"neutral": (), **PROTOTYPES}
    masks = {name: np.isin(UNITS, numbers) for name, numbers in prototypes.items()}
    others = [masks[name] for name in PROTOTYPES if name != "contempt"]  # it needs one side only
    lowest = np.nan_to_num([units[:, mask].min(axis=1) for mask in others]).max(axis=0)
    for name in np.unique(faces["expression"]).tolist():
        own = units[:, masks.get(canonical_name(name), np.full(len(UNITS), True))]  # of others: all
        lowest[(faces["expression"] == name) & ~(own < ACTIVE_THRESHOLD).all(axis=1)] = 0
    return lowest


def check_predictions(faces: Faces, table: Predictions) -> tuple[Finding, float, str | None]:
    """Compares predictions with the labels of the split that has most of their ids.

    **Returns:** probably wrong labels; their estimated share and a warning of a wrong class order.

    **Raises:** `UserError` if no id is that of a face with a label.
    """
    splits = [np.flatnonzero(faces["split"] == name) for name in np.unique(faces["split"])]
    ids = [np.intersect1d(faces["id"][rows], table.id, True, True) for rows in splits]
    best = max(range(len(splits)), key=lambda i: len(ids[i][0]))
    rows, table = splits[best][ids[best][1]], table.select(ids[best][2])
    expressions = faces["expression"][rows].tolist()
    matches = {name: find_class(name, table.classes) for name in set(expressions)}
    classes = {name: table.classes.index(match) for name, match in matches.items() if match}
    labels = np.array([classes.get(name, -1) for name in expressions], int)
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        raise UserError("--predictions: no id is that of a face with a label")
    assert table.probabilities is not None
    classes, probabilities = np.array(table.classes), table.probabilities[known]
    finding, share = _find_wrong_labels(rows[known], labels[known], classes, probabilities)
    return finding, share, describe_wrong_order(dataclasses.replace(table, expression=labels))


def check_labels(
    faces: Faces, records: Any, image_size: int, predictor: Predictor
) -> tuple[Finding, float]:
    """Finds probably wrong labels in all splits without given predictions, and their share.

    A classifier predicts them from features of a network and from action units.

    **Arguments:** `predictor`: of a network that was not trained on these faces, see
    `load_predictor`.

    **Raises:** `UserError` if there are too few faces.
    """
    rows = np.flatnonzero(faces["expression"] != "")
    classes, labels = np.unique(faces["expression"][rows], return_inverse=True)
    is_alone = faces["group"][rows] == ""  # identical files are a group
    groups = np.where(is_alone, faces["digest"][rows].astype(str), faces["group"][rows])
    if len(np.unique(groups)) < out_of_fold.NUM_FOLDS:
        raise UserError("--network: there are too few different faces with an expression")
    images = (decode_faces(records, [row], image_size)[0] for row in rows.tolist())
    results = tqdm.tqdm(predictor.stream(images), "features", len(rows), disable=None)
    features = np.concatenate([result.outputs["features"] for result in results])
    features = np.hstack([features, np.nan_to_num(faces["action_units"][rows])])
    probabilities = out_of_fold.predict_out_of_fold(features, labels, groups)
    return _find_wrong_labels(rows, labels, classes, probabilities)


def load_predictor(run: str) -> Predictor:
    """Loads the network of a run, or `ready`, for the features of prepared faces."""
    return Predictor.load(run, detector="none", margin=0, batch_size=BATCH_SIZE, features=True)


def _find_wrong_labels(
    rows: np.ndarray, labels: np.ndarray, classes: np.ndarray, probabilities: np.ndarray
) -> tuple[Finding, float]:
    wrong, suggested, share = find_wrong_labels(labels, probabilities)
    columns = {"label": classes[suggested], "probability": probabilities[wrong, labels[wrong]]}
    return Finding("Labels that the predictions contradict", rows[wrong], columns), share
