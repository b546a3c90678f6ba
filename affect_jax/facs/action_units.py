"""The action units of the Facial Action Coding System that a face image or 68 landmarks can show.

Sources: Ekman, Friesen and Hager, Facial Action Coding System (2002), for numbers, names and sides;
Friesen and Ekman, EMFACS-7 (1983), for the prototypes, as the AffectNet summary (2018) lists them.
A prototype suggests an emotion but does not prove it: AU6 with AU12 may mean happiness.
"""

from __future__ import annotations

from typing import NamedTuple


class ActionUnit(NamedTuple):
    """An action unit.

    **Arguments:**

    - `number`, `name`: as in FACS.
    - `has_sides`: FACS scores left and right separately.
    """

    number: int
    name: str
    has_sides: bool = True


ACTION_UNITS = (
    ActionUnit(1, "inner brow raiser"),
    ActionUnit(2, "outer brow raiser"),
    ActionUnit(4, "brow lowerer"),
    ActionUnit(5, "upper lid raiser"),
    ActionUnit(6, "cheek raiser"),
    ActionUnit(7, "lid tightener"),
    ActionUnit(9, "nose wrinkler"),
    ActionUnit(10, "upper lip raiser"),
    ActionUnit(12, "lip corner puller"),
    ActionUnit(14, "dimpler"),
    ActionUnit(15, "lip corner depressor"),
    ActionUnit(17, "chin raiser", has_sides=False),
    ActionUnit(20, "lip stretcher"),
    ActionUnit(23, "lip tightener", has_sides=False),
    ActionUnit(24, "lip pressor", has_sides=False),
    ActionUnit(25, "lips part", has_sides=False),
    ActionUnit(26, "jaw drop", has_sides=False),
    ActionUnit(43, "eyes closed", has_sides=False),  # closing one eye is a wink, AU46
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
"""Units of each emotion (EMFACS); those of contempt move one side of the face only. AU16, lower lip
depressor, is not among `UNITS`: 68 points do not distinguish it from AU25."""
