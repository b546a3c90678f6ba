"""The action units of the Facial Action Coding System that a face image or 68 landmarks can show.

Sources: Ekman, Friesen and Hager, Facial Action Coding System (2002), for numbers, names, muscles
and sides; Friesen and Ekman, EMFACS-7 (1983), for the prototypes, as the AffectNet summary (2018)
lists them. Prototypes suggest an emotion, they do not name it: AU6 with AU12 may mean happiness.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np


@dataclasses.dataclass(frozen=True)
class ActionUnit:
    """One unit.

    **Arguments:**

    - `number`, `name`: FACS's.
    - `muscles`: that do it.
    - `moves`: what one sees.
    - `sided`: FACS scores left and right apart.
    """

    number: int
    name: str
    muscles: str
    moves: str
    sided: bool = True


TABLE = (
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
    ActionUnit(17, "chin raiser", "mentalis", "chin and lower lip go up", sided=False),
    ActionUnit(20, "lip stretcher", "risorius with platysma", "mouth corners go out"),
    ActionUnit(23, "lip tightener", "orbicularis oris", "lips get narrow and tight", sided=False),
    ActionUnit(24, "lip pressor", "orbicularis oris", "lips are pressed together", sided=False),
    ActionUnit(
        25, "lips part", "depressor labii inferioris, or others let go", "lips part", sided=False
    ),
    ActionUnit(
        26,
        "jaw drop",
        "masseter, temporalis and internal pterygoid let go",
        "jaw goes down",
        sided=False,
    ),
    ActionUnit(
        43,
        "eyes closed",
        "levator palpebrae superioris lets go",
        "upper lids close",
        sided=False,  # one eye alone is another unit, AU46, wink
    ),
)

UNITS = tuple(unit.number for unit in TABLE)
"""The order of every array of action units."""

ACTIVE = 0.5
"""A unit counts as active from this intensity on, where a loss or a score wants yes or no."""

PROTOTYPES: dict[str, tuple[int, ...]] = {
    "happiness": (6, 12),
    "sadness": (1, 4, 15),
    "surprise": (1, 2, 5, 26),
    "fear": (1, 2, 4, 5, 7, 20, 26),
    "disgust": (9, 15, 16),
    "anger": (4, 5, 7, 23),
    "contempt": (12, 14),
}
"""EMFACS; AU16, lower lip depressor, is not among `UNITS`: 68 points do not tell it from AU25."""


ONE_SIDED = "contempt"
"""The emotion whose units move one side of the face; which, does not matter."""


@dataclasses.dataclass(frozen=True)
class Compatibility:
    """How well a set of units fits one emotion's prototype.

    **Arguments:**

    - `emotion`: one of `PROTOTYPES`.
    - `score`: in [0, 1], the cosine between intensities and prototype: 1 when exactly its units
      are active, equally; where sides are known, on the sides that it moves.
    - `present`, `missing`: the prototype's units at `threshold` or above, and the others.
    - `extra`: active units that the prototype does not have.
    """

    emotion: str
    score: float
    present: tuple[int, ...]
    missing: tuple[int, ...]
    extra: tuple[int, ...]


def explain(
    intensities: Mapping[int, float] | Sequence[float] | np.ndarray, threshold: float = 0.2
) -> list[Compatibility]:
    """Which emotions a face's units are compatible with, the best first: never a single verdict.

    **Arguments:**

    - `intensities`: [18] in the order of `UNITS`, or `{number: intensity}`; in [0, 1]. Or [2, 18]
      of the two sides, which tells contempt, on one side, from a smile.
    - `threshold`: from here on a unit counts as active, on either side.

    **Returns:** all seven; scores are 0 where nothing fits, for a neutral face everywhere.

    **Raises:** `ValueError` for an unknown unit, and for an intensity or threshold outside [0, 1].
    """
    values = _checked(intensities)
    if not (isinstance(threshold, Real) and 0 < threshold <= 1):
        raise ValueError(f"threshold = {threshold!r}: must be a number in (0, 1]")
    stronger = np.atleast_2d(values).max(axis=0)
    active = {unit for unit, value in zip(UNITS, stronger, strict=True) if value >= threshold}
    found = []
    for emotion, prototype in PROTOTYPES.items():
        known = [unit for unit in prototype if unit in UNITS]
        pattern = np.isin(UNITS, known).astype(float)
        patterns = [pattern] if values.ndim == 1 else _on_sides(emotion, pattern)
        found.append(
            Compatibility(
                emotion,
                max(_cosine(values, one) for one in patterns) if active else 0.0,
                present=tuple(unit for unit in known if unit in active),
                missing=tuple(unit for unit in prototype if unit not in active),
                extra=tuple(sorted(active - set(known))),
            )
        )
    return sorted(found, key=lambda one: -one.score)


def _checked(intensities: Mapping[int, float] | Sequence[float] | np.ndarray) -> np.ndarray:
    """float64 [18] or [2, 18], in [0, 1]."""
    if isinstance(intensities, Mapping):
        unknown = [unit for unit in intensities if isinstance(unit, bool) or unit not in UNITS]
        if unknown:
            raise ValueError(f"action unit {min(unknown, key=str)} is not among {UNITS}")
        intensities = [intensities.get(unit, 0.0) for unit in UNITS]
    values = np.asarray(intensities)
    fits = values.shape in ((len(UNITS),), (2, len(UNITS))) and values.dtype.kind in "biuf"
    if not fits or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"intensities must be {len(UNITS)} numbers in [0, 1], or two rows of them")
    return values.astype(float)


def _on_sides(emotion: str, pattern: np.ndarray) -> list[np.ndarray]:
    """What the prototype looks like on two sides [2, 18], either way round."""
    if emotion != ONE_SIDED:
        return [np.stack([pattern, pattern])]
    rest = np.zeros_like(pattern)
    return [np.stack([pattern, rest]), np.stack([rest, pattern])]


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    norms = np.linalg.norm(one) * np.linalg.norm(other)
    return min(float(np.sum(one * other) / norms), 1.0)  # rounding may pass 1
