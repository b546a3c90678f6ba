"""The action units of the Facial Action Coding System that a face image or 68 landmarks can show.

Sources: Ekman, Friesen and Hager, Facial Action Coding System (2002), for numbers, names, muscles
and sides; Friesen and Ekman, EMFACS-7 (1983), for the prototypes, as the AffectNet summary (2018)
lists them. A prototype suggests an emotion but does not prove it: AU6 with AU12 may mean happiness.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np


@dataclasses.dataclass(frozen=True)
class ActionUnit:
    """An action unit.

    **Arguments:**

    - `number`, `name`: as in FACS.
    - `muscles`: the muscles that produce it.
    - `appearance`: the visible change.
    - `has_sides`: FACS scores left and right separately.
    """

    number: int
    name: str
    muscles: str
    appearance: str
    has_sides: bool = True


ACTION_UNITS = (
    ActionUnit(1, "inner brow raiser", "frontalis, pars medialis", "inner brows go up"),
    ActionUnit(2, "outer brow raiser", "frontalis, pars lateralis", "outer brows go up"),
    ActionUnit(
        4,
        "brow lowerer",
        "corrugator supercilii, depressor supercilii, procerus",
        "brows go down and together",
    ),
    ActionUnit(5, "upper lid raiser", "levator palpebrae superioris", "upper lids go up"),
    ActionUnit(6, "cheek raiser", "orbicularis oculi, pars orbitalis", "cheeks go up, eyes narrow"),
    ActionUnit(7, "lid tightener", "orbicularis oculi, pars palpebralis", "lower lids go up"),
    ActionUnit(
        9, "nose wrinkler", "levator labii superioris alaeque nasi", "nose wings and lip go up"
    ),
    ActionUnit(10, "upper lip raiser", "levator labii superioris", "upper lip goes up"),
    ActionUnit(12, "lip corner puller", "zygomaticus major", "mouth corners go up and out"),
    ActionUnit(14, "dimpler", "buccinator", "mouth corners go in, tightened"),
    ActionUnit(15, "lip corner depressor", "depressor anguli oris", "mouth corners go down"),
    ActionUnit(17, "chin raiser", "mentalis", "chin and lower lip go up", has_sides=False),
    ActionUnit(20, "lip stretcher", "risorius with platysma", "mouth corners go out"),
    ActionUnit(
        23, "lip tightener", "orbicularis oris", "lips get narrow and tight", has_sides=False
    ),
    ActionUnit(24, "lip pressor", "orbicularis oris", "lips are pressed together", has_sides=False),
    ActionUnit(
        25, "lips part", "depressor labii inferioris, or others relax", "lips part", has_sides=False
    ),
    ActionUnit(
        26,
        "jaw drop",
        "masseter, temporalis and internal pterygoid relax",
        "jaw goes down",
        has_sides=False,
    ),
    ActionUnit(
        43,
        "eyes closed",
        "levator palpebrae superioris relaxes",
        "upper lids close",
        has_sides=False,  # closing one eye is a different unit, AU46, wink
    ),
)

UNITS = tuple(unit.number for unit in ACTION_UNITS)
"""FACS numbers, in the order of every array of action units."""

ACTIVE_THRESHOLD = 0.5
"""Losses and scores with binary targets count a unit as active at this intensity or above."""

PROTOTYPES: dict[str, tuple[int, ...]] = {
    "happiness": (6, 12),
    "sadness": (1, 4, 15),
    "surprise": (1, 2, 5, 26),
    "fear": (1, 2, 4, 5, 7, 20, 26),
    "disgust": (9, 15, 16),
    "anger": (4, 5, 7, 23),
    "contempt": (12, 14),
}
"""Units of each emotion (EMFACS). AU16, lower lip depressor, is not among `UNITS`: 68 points do not
distinguish it from AU25."""


UNILATERAL_EMOTION = "contempt"
"""The emotion whose units move one side of the face only, left or right."""


@dataclasses.dataclass(frozen=True)
class Compatibility:
    """How well a set of units matches the prototype of an emotion.

    **Arguments:**

    - `emotion`: one of `PROTOTYPES`.
    - `score`: cosine similarity of intensities and prototype, in [0, 1]. It is 1 if exactly the
      units of the prototype are active, with equal intensity. If the intensities have sides, they
      must also be on the sides that the prototype moves.
    - `present`, `missing`: units of the prototype at `threshold` or above, and below.
    - `extra`: active units that are not in the prototype.
    """

    emotion: str
    score: float
    present: tuple[int, ...]
    missing: tuple[int, ...]
    extra: tuple[int, ...]


def rank_emotions(
    intensities: Mapping[int, float] | Sequence[float] | np.ndarray, threshold: float = 0.2
) -> list[Compatibility]:
    """Ranks all emotions by how well they are compatible with the units of a face, best first.

    **Arguments:**

    - `intensities`: [18] in the order of `UNITS`, or `{number: intensity}`; in [0, 1]. Or [2, 18],
      one row per side, which separates contempt (one side) from a smile.
    - `threshold`: a unit is active if its intensity is at least this on either side.

    **Returns:** all seven emotions. A score of 0 means no match; a neutral face has only zeros.

    **Raises:** `ValueError` for an unknown unit, and for an intensity or threshold outside [0, 1].
    """
    values = _validate_intensities(intensities)
    if not (isinstance(threshold, Real) and 0 < threshold <= 1):
        raise ValueError(f"threshold = {threshold!r}: must be a number in (0, 1]")
    stronger = np.atleast_2d(values).max(axis=0)
    active = {unit for unit, value in zip(UNITS, stronger, strict=True) if value >= threshold}
    ranking = []
    for emotion, prototype in PROTOTYPES.items():
        measurable = [unit for unit in prototype if unit in UNITS]
        pattern = np.isin(UNITS, measurable).astype(float)
        candidates = [pattern] if values.ndim == 1 else _side_patterns(emotion, pattern)
        ranking.append(
            Compatibility(
                emotion,
                max(_cosine_similarity(values, c) for c in candidates) if active else 0.0,
                present=tuple(unit for unit in measurable if unit in active),
                missing=tuple(unit for unit in prototype if unit not in active),
                extra=tuple(sorted(active - set(measurable))),
            )
        )
    return sorted(ranking, key=lambda compatibility: -compatibility.score)


def _validate_intensities(
    intensities: Mapping[int, float] | Sequence[float] | np.ndarray,
) -> np.ndarray:
    """Returns the intensities as float64 [18] or [2, 18], in [0, 1]."""
    if isinstance(intensities, Mapping):
        unknown = [unit for unit in intensities if isinstance(unit, bool) or unit not in UNITS]
        if unknown:
            raise ValueError(f"action unit {min(unknown, key=str)} is not among {UNITS}")
        intensities = [intensities.get(unit, 0.0) for unit in UNITS]
    values = np.asarray(intensities)
    is_valid = values.shape in ((len(UNITS),), (2, len(UNITS))) and values.dtype.kind in "biuf"
    if not is_valid or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"intensities must be {len(UNITS)} numbers in [0, 1], or two rows of them")
    return values.astype(float)


def _side_patterns(emotion: str, pattern: np.ndarray) -> list[np.ndarray]:
    """The prototype as patterns [2, 18] of both sides; a unilateral one has a pattern per side."""
    if emotion != UNILATERAL_EMOTION:
        return [np.stack([pattern, pattern])]
    inactive = np.zeros_like(pattern)
    return [np.stack([pattern, inactive]), np.stack([inactive, pattern])]


def _cosine_similarity(first: np.ndarray, second: np.ndarray) -> float:
    norms = np.linalg.norm(first) * np.linalg.norm(second)
    return min(float(np.sum(first * second) / norms), 1.0)  # rounding may exceed 1
