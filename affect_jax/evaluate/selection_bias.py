"""Selection bias: how much better than it is the best of a run's evaluations looks.

Training keeps `checkpoint.best` of bootstrap samples of each evaluation (`evaluations.jsonl`). On
each sample the best evaluation is chosen; the expected optimism is the mean of its score on the
sample minus its score on all faces (Efron and Tibshirani 1993, section 17.6). If all evaluations
were equally good, this would be 0.7 of the true optimism.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np

from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions

FILE = "evaluations.jsonl"
REPLICATES = 200  # the same samples of faces for every evaluation


def sample_score(table: Predictions, name: str) -> list[float | None]:
    """Computes a score on bootstrap samples of the faces, [R]; None where it is undefined."""
    scores = protocol.bootstrap_scores(table, REPLICATES, seed=0)
    sampled = scores.get(name.removeprefix("-"), np.full(REPLICATES, np.nan))
    return [None if np.isnan(value) else round(value, 6) for value in sampled.tolist()]


def estimate(path: pathlib.Path, name: str) -> dict[str, Any]:
    """Estimates the selection bias from the evaluations of a run.

    **Arguments:** `name`: `checkpoint.best` of the run.

    **Returns:** the value of `selection_bias` in `scores.json`; empty with less than two
    evaluations.
    """
    lines = path.read_text().splitlines() if path.is_file() else []
    parsed = [json.loads(line) for line in lines if line.endswith("}")]
    evaluations = [*{x["step"]: x for x in parsed if x["score"] is not None}.values()]
    if len(evaluations) < 2:
        return {}
    sign = -1 if name.startswith("-") else 1
    values = sign * np.array([x["score"] for x in evaluations])
    sampled = sign * np.array([x["samples"] for x in evaluations], float)
    sampled = sampled[:, np.isfinite(sampled).all(axis=0)]
    if not sampled.size:  # the score has no bootstrap, such as the best threshold of a unit
        return {}
    sampled += (values - sampled.mean(axis=1))[:, None]  # resampling biases some scores
    optimism = np.mean(sampled.max(axis=0) - values[sampled.argmax(axis=0)])
    best = values.argmax()
    return {
        "score": name,
        "evaluations": len(values),
        "best": f"{sign * values[best]:.4f} at step {evaluations[best]['step']:,}",
        "last": f"{sign * values[-1]:.4f} at step {evaluations[-1]['step']:,}",
        "best minus last": round(sign * float(values[best] - values[-1]), 4),
        "expected optimism": round(sign * float(optimism), 4),
    }
