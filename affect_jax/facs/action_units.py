"""The action units of the Facial Action Coding System that a face image or 68 landmarks can show.

Sources: Ekman, Friesen and Hager, Facial Action Coding System (2002), for numbers, names and sides;
Friesen and Ekman, EMFACS-7 (1983), for the prototypes, as the AffectNet summary (2018) lists them.
A prototype suggests an emotion but does not prove it: AU6 with AU12 may mean happiness.
"""

from __future__ import annotations

import numpy as np

ACTION_UNITS = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    10: "upper lip raiser",
    12: "lip corner puller",
    14: "dimpler",
    15: "lip corner depressor",
    17: "chin raiser",
    20: "lip stretcher",
    23: "lip tightener",
    24: "lip pressor",
    25: "lips part",
    26: "jaw drop",
    43: "eyes closed",  # closing one eye is a wink, AU46
}
"""FACS number -> name."""

UNITS = tuple(ACTION_UNITS)
"""FACS numbers, in the order of every array of action units."""

HAS_SIDES = np.isin(UNITS, (17, 23, 24, 25, 26, 43), invert=True)
"""bool [18]: FACS scores left and right separately."""

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
