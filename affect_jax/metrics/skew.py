"""Skew-normalised scores: what a model would score were all classes equally frequent.

Source: Mollahosseini et al. 2017, section 4.1.3; Jeni et al. 2013. As many faces as the rarest
class has are drawn from every class, without replacement, and scored; this is done many times.
"""

from __future__ import annotations

import numpy as np

from affect_jax.metrics.base import Scorer, chunks


def draw(labels: np.ndarray, draws: range, seed: int) -> np.ndarray:
    """Weights 0 or 1, float64 [len(draws), N]: which faces each draw has.

    A draw depends on `seed` and on its own number alone. The rarest class is the rarest of those
    that have a face.

    **Arguments:**

    - `labels`: int [N].
    - `draws`: numbers of the draws.
    """
    weights = np.zeros((len(draws), len(labels)))
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    rarest = min(map(len, rows))
    for row, number in enumerate(draws):
        random = np.random.default_rng([seed, number])
        for members in rows:
            weights[row, random.choice(members, rarest, replace=False, shuffle=False)] = 1.0
    return weights


def normalised(scorer: Scorer, labels: np.ndarray, draws: int, seed: int) -> dict[str, np.ndarray]:
    """Scores of every draw: float64 [draws] by name.

    **Arguments:**

    - `scorer`: of the same N faces.
    - `labels`: int [N], the classes to make equally frequent.
    """
    parts = [scorer(draw(labels, part, seed)) for part in chunks(draws, len(labels))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
