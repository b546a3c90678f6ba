"""Parses the annotations of a face: label, box, landmarks and units, from text or `.npy` files.

The input is untrusted. A value without a valid meaning raises `UnusableInputError`, with a reason
for `skipped.csv`, and `.npy` files are never unpickled.
"""

from __future__ import annotations

import io
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from affect_jax.core.errors import is_out_of_memory
from affect_jax.core.labels import NOT_ANNOTATED, find_class
from affect_jax.facs.action_units import UNITS

BOX_FIELDS = ("face_x", "face_y", "face_width", "face_height")
NUM_LANDMARKS = 68
MAX_NUMBER = 1e6
"""The maximum absolute value of a number, pixels included."""


class UnusableInputError(Exception):
    """A row or an image cannot be used; the message is the reason, written to `skipped.csv`."""


def parse_number(value: Any, name: str) -> float:
    """Parses a text or a scalar as a number with an absolute value of at most `MAX_NUMBER`."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise UnusableInputError(f"{name}: {value!r:.40} is not a number") from None
    if not abs(number) <= MAX_NUMBER:
        raise UnusableInputError(f"{name}: {value!r:.40} is out of range")
    return number


def parse_expression(values: Mapping[str, Any], classes: Sequence[str]) -> int:
    """Index of the label in `classes`, parsed from a name or a number; -1 if there is no label.

    Without a label, the class with the most votes or the highest probability, the first of equals.
    """
    if "expression" not in values:
        for name in ("expression_distribution", "votes"):
            if name in values:
                return int(np.argmax(parse_weights(values, name, len(classes))))
        return -1
    value = values["expression"]
    if isinstance(value, str) and value.strip() in classes:
        return list(classes).index(value.strip())
    try:
        number = parse_number(value, "expression")
    except UnusableInputError:
        # A damaged `.npy` holds characters that Python cannot convert to lower case.
        is_text = isinstance(value, str) and value.isascii()
        if is_text and (match := find_class(value, classes)):
            return list(classes).index(match)
        names = ", ".join(classes)
        raise UnusableInputError(f"expression: {value!r:.40} is not one of {names:.200}") from None
    if number != int(number) or not 0 <= number < len(classes):
        raise UnusableInputError(f"expression: {value!r:.40} is outside 0..{len(classes) - 1}")
    return int(number)


def parse_dimension(values: Mapping[str, Any], name: str) -> float:
    """Valence or arousal in [-1, 1]; NaN if absent or if the value is -2 ("not annotated")."""
    if name not in values:
        return math.nan
    number = parse_number(values[name], name)
    if number == NOT_ANNOTATED:
        return math.nan
    if not -1 <= number <= 1:
        raise UnusableInputError(f"{name}: {values[name]!r:.40} is outside -1..1")
    return number


def parse_box(values: Mapping[str, Any]) -> tuple[float, ...] | None:
    """x, y, width and height in pixels of the stored image; None stands for the whole image."""
    if not any(name in values for name in BOX_FIELDS):
        return None
    return tuple(parse_number(values.get(name), name) for name in BOX_FIELDS)


def parse_landmarks(values: Mapping[str, Any]) -> np.ndarray | None:
    """float64 [68, 2] from `x1;y1;x2;...`, or from an array [136] or [68, 2]; None if absent."""
    value = values.get("facial_landmarks", "")
    if isinstance(value, str):
        value = value.strip().strip(";")
        if not value:
            return None
    try:
        numbers = list(map(float, value.split(";"))) if isinstance(value, str) else value
        points = np.squeeze(np.asarray(numbers, dtype=np.float64))
    except (TypeError, ValueError):
        raise UnusableInputError("facial_landmarks: not 68 points") from None
    if points.shape not in ((2 * NUM_LANDMARKS,), (NUM_LANDMARKS, 2)):  # [2, 68] would be scrambled
        raise UnusableInputError("facial_landmarks: not 68 points")
    if not (np.abs(points) <= MAX_NUMBER).all():
        raise UnusableInputError("facial_landmarks: not all points are within range")
    return points.reshape(NUM_LANDMARKS, 2)


def parse_action_units(values: Mapping[str, Any], scale: float) -> np.ndarray | None:
    """float32 [18] in [0, 1], NaN for a unit that was not annotated; None if no unit was.

    **Arguments:** `scale`: divisor of the intensities in `values`.
    """
    intensities = np.full(len(UNITS), np.nan, np.float32)
    for index, unit in enumerate(UNITS):
        name = f"AU{unit}"
        if name in values:
            intensity = parse_number(values[name], name) / scale
            if not 0 <= intensity <= 1:
                raise UnusableInputError(f"{name}: {values[name]!r:.40} is outside 0..{scale:g}")
            intensities[index] = intensity
    return None if np.isnan(intensities).all() else intensities


def parse_weights(values: Mapping[str, Any], name: str, num_classes: int) -> np.ndarray:
    """Votes or probabilities of the classes: float32 [C], at least 0; NaN if absent."""
    if name not in values:
        return np.full(num_classes, np.nan, np.float32)
    weights = np.array([parse_number(value, name) for value in values[name]], np.float32)
    if len(weights) != num_classes:
        raise UnusableInputError(f"{name}: {len(weights)} numbers for {num_classes} classes")
    if weights.min() < 0:
        raise UnusableInputError(f"{name}: a number is negative")
    if not weights.sum():
        raise UnusableInputError(f"{name}: the sum is 0")
    return weights


def parse_extra_features(
    values: Mapping[str, Any], names: Sequence[str], num_classes: int
) -> dict[str, Any]:
    """Features that only some datasets have, see `tfds_builder.face_features`.

    The distribution is given, or the share of votes.
    """
    votes = parse_weights(values, "votes", num_classes)
    weights = parse_weights(values, "expression_distribution", num_classes)
    weights = votes if np.isnan(weights).any() else weights
    distribution = weights / weights.sum()
    group = values.get("group", "")
    features = {"expression_distribution": distribution, "votes": votes, "group": group}
    return {name: features[name] for name in names}


def read_annotations(path_prefix: str) -> dict[str, Any]:
    """Reads `N_exp.npy`, `N_val.npy`, `N_aro.npy` and, if it exists, `N_lnd.npy` (release 2)."""
    endings = {"expression": "exp", "valence": "val", "arousal": "aro"}
    if os.path.exists(f"{path_prefix}lnd.npy"):
        endings["facial_landmarks"] = "lnd"
    return {name: read_npy(f"{path_prefix}{ending}.npy") for name, ending in endings.items()}


def read_npy(path: str) -> Any:
    """Reads a `.npy` array without unpickling; an array of one value becomes a scalar."""
    name = os.path.basename(path)
    try:
        array = np.load(io.BytesIO(read_file(path)), allow_pickle=False)
        return array.item() if array.size == 1 else array
    except UnusableInputError as error:
        raise UnusableInputError(f"{name}: {error}") from None
    except Exception as error:  # NumPy parses the header as an expression, so any error is possible
        raise UnusableInputError(f"{name}: not an array of numbers") from error


def read_file(path: str) -> bytes:
    """Reads an image or an annotation; not a pipe or a device, which would block or never end."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise UnusableInputError("not a file")
        return pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        raise UnusableInputError("file missing") from None
    except OSError as error:  # loop of links, no permission, long name, failing disk
        if is_out_of_memory(error):
            raise
        raise UnusableInputError(f"file cannot be read: {error.strerror}") from error
