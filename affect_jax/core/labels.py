"""AffectNet's labels: names, order, counts and the values that mean "not annotated".

Source: Mollahosseini, Hasani and Mahoor, AffectNet (2017), tables 3 and 5.
"""

from __future__ import annotations

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

SYNONYMS = {
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "fearful": "fear",
    "afraid": "fear",
    "disgusted": "disgust",
    "angry": "anger",
    "contemptuous": "contempt",
}
"""Names of other datasets and tools for AffectNet's classes."""

NOT_ANNOTATED = -2.0
"""The release's value for a face without valence and arousal."""

AXES = ("valence", "arousal")

SPLITS = ("training", "validation")
"""Splits of AffectNet and of the rendered faces."""

NON_FACE = "non-face"
"""The annotation of an image without a face."""


def classes(num_classes: int = NUM_CLASSES) -> tuple[str, ...]:
    """Names of the categorical model's classes, in the order of its logits.

    The 7-class protocol drops contempt. Its classes are the first seven ids, so no id changes.
    """
    return EXPRESSIONS[:num_classes]


def canonical_name(name: str) -> str:
    """Returns AffectNet's name of an expression (`Happy`: `happiness`), or `name` in lower case."""
    name = name.strip().lower()
    return SYNONYMS.get(name, name)
