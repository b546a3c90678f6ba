"""What a row says of its face: labels, box, landmarks and units, from texts or `.npy` files.

All of it is a stranger's: what has no meaning is `Unusable`, with a reason for `skipped.csv`, and
`.npy` files are never unpickled.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from affect_jax.core.labels import NOT_ANNOTATED
from affect_jax.facs.action_units import UNITS

BOX = ("face_x", "face_y", "face_width", "face_height")
ANNOTATIONS = {"exp": "expression", "val": "valence", "aro": "arousal", "lnd": "facial_landmarks"}

MAX_ANNOTATION_BYTES = 64 * 2**10
FARTHEST = 1e6  # pixels from the image's corner


class Unusable(Exception):
    """Why a row cannot be used; the message goes into `skipped.csv`."""


def parse_number(value: Any, name: str, largest: float = 1e300) -> float:
    """A finite number, within +-`largest`, from a text or a scalar."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise Unusable(f"{name}: {_short(value)} is not a number") from None
    if not abs(number) <= largest:
        raise Unusable(f"{name}: {_short(value)} is no usable number")
    return number


def parse_expression(values: Mapping[str, Any], classes: Sequence[str]) -> int:
    """The place of the label in `classes`, given by name or number; -1 where there is none."""
    if "expression" not in values:
        return -1
    value = values["expression"]
    if isinstance(value, str) and value.strip() in classes:
        return list(classes).index(value.strip())
    number = parse_number(value, "expression")
    if number != int(number) or not 0 <= number < len(classes):
        raise Unusable(f"expression: {_short(value)} is outside 0..{len(classes) - 1}")
    return int(number)


def parse_axis(values: Mapping[str, Any], name: str) -> float:
    """Valence or arousal, in [-1, 1]; NaN where there is none or the mark -2."""
    if name not in values:
        return math.nan
    number = parse_number(values[name], name)
    if number == NOT_ANNOTATED:
        return math.nan
    if not -1 <= number <= 1:
        raise Unusable(f"{name}: {_short(values[name])} is outside -1..1")
    return number


def parse_box(values: Mapping[str, Any]) -> tuple[float, ...] | None:
    """x, y, width, height in pixels of the stored image; None: the whole image."""
    given = any(name in values for name in BOX)
    return tuple(parse_number(values.get(n), n, FARTHEST) for n in BOX) if given else None


def parse_landmarks(values: Mapping[str, Any]) -> np.ndarray | None:
    """float64 [68, 2] from `x1;y1;x2;...` or from an array of 136 numbers; None: there are none."""
    value = values.get("facial_landmarks", "")
    if isinstance(value, str):
        value = value.strip().strip(";")
        if not value:
            return None
    try:
        numbers = list(map(float, value.split(";"))) if isinstance(value, str) else value
        points = np.asarray(numbers, dtype=np.float64).reshape(68, 2)
    except (TypeError, ValueError):
        raise Unusable("facial_landmarks: not 68 points") from None
    if not (np.abs(points) <= FARTHEST).all():
        raise Unusable("facial_landmarks: not all are places in an image")
    return points


def parse_action_units(values: Mapping[str, Any], scale: float) -> np.ndarray | None:
    """float32 [18] in [0, 1], NaN for a unit that was not annotated; None: none was.

    **Arguments:**

    - `scale`: by which what is written is divided.
    """
    names = [f"AU{unit}" for unit in UNITS]
    if not any(name in values for name in names):
        return None
    found = np.full(len(UNITS), np.nan, np.float32)
    for place, name in enumerate(names):
        if name in values:
            share = parse_number(values[name], name) / scale
            if not 0 <= share <= 1:
                raise Unusable(f"{name}: {_short(values[name])} is outside 0..{scale:g}")
            found[place] = share
    return found


def read_annotations(beginning: str) -> dict[str, Any]:
    """The second release's `N_exp.npy`, `N_val.npy`, `N_aro.npy` and, if there, `N_lnd.npy`."""
    values: dict[str, Any] = {}
    for ending, name in ANNOTATIONS.items():
        path = f"{beginning}{ending}.npy"
        if ending == "lnd" and not os.path.exists(path):
            continue
        values[name] = read_npy(path)
    return values


def read_npy(path: str) -> Any:
    """A small `.npy` array of numbers or strings, never unpickled; a single value as a scalar."""
    name = os.path.basename(path)
    try:
        size = os.path.getsize(path)
        if size > MAX_ANNOTATION_BYTES:
            raise Unusable(f"{name}: more than {MAX_ANNOTATION_BYTES >> 10} KiB")
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's remarks about old headers
            array = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise Unusable(f"{name}: file missing") from None
    except OSError as error:
        raise Unusable(f"{name}: cannot be read: {error.strerror}") from error
    except Unusable:
        raise
    except Exception as error:  # its header is parsed as an expression, and may be anything
        raise Unusable(f"{name}: not an array of numbers") from error
    # NumPy 2.0 also reads "-1 numbers" as none, and texts of length 0 take no bytes for any number.
    if not 0 < array.size <= MAX_ANNOTATION_BYTES or array.dtype.kind not in "biufSU":
        raise Unusable(f"{name}: not an array of numbers")
    return array.reshape(-1)[0].item() if array.size == 1 else array


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
