"""AffectNet's labels: names, order, counts and the values that mean "not annotated".

Source: Mollahosseini, Hasani and Mahoor, AffectNet (2017), tables 3 and 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from affect_jax.core.errors import UserError

EXPRESSIONS = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
    "none",
    "uncertain",
    "non-face",
)
"""All eleven annotations; a label's id is its index here."""

NUM_CLASSES = 8
"""The first eight are the classes of the categorical model; the other three are never a target."""

TRAINING_COUNTS = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)
"""Faces of each of the eight classes in the manually annotated training set (287,651 in all)."""

VALIDATION_COUNT = 500
"""Faces of each class in the validation set."""

NOT_ANNOTATED = -2.0
"""The release's value for a face without valence and arousal."""

MIN_CERTAIN = 0.5
"""An expression with a lower probability is marked as uncertain: it is more often wrong than right
if the probabilities are calibrated, as those of the model in the package."""

AXES = ("valence", "arousal")

SPLITS = ("training", "validation")
"""Splits of AffectNet and of the rendered faces."""

NON_FACE = "non-face"
"""The annotation of an image without a face."""

SYNONYMS = {
    **{"natural": "neutral", "normal": "neutral", "happy": "happiness", "joy": "happiness"},
    **{"sad": "sadness", "surprised": "surprise", "fearful": "fear", "afraid": "fear"},
    **{"disgusted": "disgust", "angry": "anger", "contemptuous": "contempt"},
    **{"non face": "non-face", "nonface": "non-face"},
}
"""Names of other datasets and tools for the expressions."""

DATASET_CLASSES = {
    "aff_wild2": (*EXPRESSIONS[:7], "other"),
    "raf_db_compound": tuple(
        "happily surprised,happily disgusted,sadly fearful,sadly angry,sadly surprised,sadly"
        " disgusted,fearfully angry,fearfully surprised,angrily surprised,angrily disgusted,"
        "disgustedly surprised".split(",")
    ),
}
"""Classes of the datasets whose classes are not those of AffectNet."""


def classes(num_classes: int = NUM_CLASSES) -> tuple[str, ...]:
    """Names of the categorical model's classes, in the order of its logits.

    The 7-class protocol drops contempt. Its classes are the first seven ids, so no id changes.
    """
    return EXPRESSIONS[:num_classes]


def dataset_classes(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Classes of the dataset `config.data.name` with its options, in the order of their ids."""
    return tuple(options.get("classes", ())) or DATASET_CLASSES.get(name, EXPRESSIONS)


def match_classes(names: Iterable[str], classes: Sequence[str], source: object) -> dict[str, str]:
    """Matches the class names in a source with those of a dataset.

    The names may differ in case, punctuation, a number before the name, and by `SYNONYMS`. They may
    also be the numbers of all `classes`, from 0 or 1.

    **Arguments:**

    - `classes`: names in the order that the user gave; empty: `EXPRESSIONS`, without numbers.
    - `source`: the file or folder, for the message of an error.

    **Returns:** name in the source -> name in `classes`.

    **Raises:** `UserError` for an unknown name, for two spellings of a class, and for numbers whose
    meaning is unknown.
    """
    names = sorted(set(names))
    advice = "with --config.data.options.classes=\"('name', ...)\""
    if names and all(name.isdecimal() for name in names):
        numbers = sorted(map(int, names))
        if numbers not in ([*range(len(classes))], [*range(1, len(classes) + 1)]):
            raise UserError(
                f"{source}: the classes are the numbers {', '.join(names)}, whose meaning is not"
                f" known; pass the {len(names)} names in their order {advice}"
            )
        return {name: classes[int(name) - numbers[0]] for name in names}
    classes = classes or EXPRESSIONS
    matched: dict[str, str] = {}  # name in `classes` -> name in the source
    for name in names:
        class_name = find_class(name, classes)
        if class_name is None:
            choices = ", ".join(classes)
            raise UserError(f"{source}: {name!r} is none of {choices}; pass the names {advice}")
        if other := matched.get(class_name):
            raise UserError(f"{source}: {other!r} and {name!r} are two spellings of a class")
        matched[class_name] = name
    return {name: class_name for class_name, name in matched.items()}


def find_class(name: str, classes: Sequence[str]) -> str | None:
    """Finds a class by its exact name, or by a canonical name that no other class has."""
    if name in classes:
        return name
    matches = [other for other in classes if canonical_name(other) == canonical_name(name)]
    return matches[0] if len(matches) == 1 else None


def canonical_name(name: str) -> str:
    """AffectNet's name of an expression, otherwise plain words: `3_Surprised` -> `surprise`."""
    text = re.sub(r"[\W_]+", " ", name.casefold()).strip()
    text = re.sub(r"^\d+ (?=\D)", "", text)
    return SYNONYMS.get(text, text)
