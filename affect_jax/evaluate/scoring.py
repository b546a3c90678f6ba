"""Scores of a table of predictions, written to `scores.json`. Needs neither JAX nor a network."""

from __future__ import annotations

import datetime
import pathlib
from typing import Any

from affect_jax.core.errors import UserError
from affect_jax.core.paths import writing_to
from affect_jax.evaluate.group_scores import GroupLabels, score_groups
from affect_jax.metrics import protocol, resampling
from affect_jax.metrics.predictions import Predictions


def score_table(
    table: Predictions,
    out: pathlib.Path,
    about: dict[str, Any],
    draws: int,
    bootstrap: int,
    group_labels: GroupLabels | None = None,
) -> None:
    """Scores a table, prints a summary and writes `scores.json` into the folder `out`.

    **Arguments:**

    - `about`: the origin of the predictions.
    - `draws`: resamplings of the skew-normalised scores.
    - `bootstrap`: bootstrap samples for the intervals; 0: no intervals.
    - `group_labels`: group labels of the faces, to score each group.

    **Raises:** `UserError` if no face has a label, or none a group, or the file cannot be written.
    """
    result = protocol.score(table, draws=draws, bootstrap=bootstrap)
    if not result.values:
        raise UserError(
            f"{about['predictions']}: no face has a label to score a prediction against"
        )
    groups = score_groups(table, group_labels or {}, bootstrap=bootstrap)
    if group_labels and not groups:
        raise UserError("--groups: no id is that of a scored face")
    not_scored = protocol.describe_unscored(table)
    settings = {
        "faces": len(table),
        "classes": list(table.classes),
        "draws": draws,
        "bootstrap": bootstrap,
        "interval": resampling.CONFIDENCE_LEVEL,
        "seed": 0,
        "time": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    if not_scored:
        settings["not_scored"] = not_scored
    with writing_to(out):
        protocol.write_scores(result, out / "scores.json", about | settings, groups)
    print(protocol.format_summary(result))
    if not_scored:
        print(f"\nnot scored: {'; '.join(not_scored)}")
    print(f"\nwritten: {out / 'scores.json'}")
