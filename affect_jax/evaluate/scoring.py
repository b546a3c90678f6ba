"""Scores of a table of predictions, written to `scores.json`. Needs neither JAX nor a network."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any

from affect_jax.core.errors import UserError
from affect_jax.metrics import confidence_intervals, protocol
from affect_jax.metrics.predictions import Predictions, read_predictions


def score_file(
    path: pathlib.Path, out: pathlib.Path, draws: int, bootstrap: int, *, data: str = ""
) -> None:
    """Scores a file of predictions. `affect_jax.metrics.predictions` documents its columns.

    **Arguments:**

    - `path`: `.parquet` or `.csv`.
    - `out`: folder for `scores.json`.
    - `draws`: resamplings of the skew-normalised scores.
    - `bootstrap`: bootstrap samples for the intervals; 0: no intervals.
    - `data`: name of the dataset, for the report. With `affectnet`, the report shows the paper's
      numbers if the labels are AffectNet's.

    **Raises:** `UserError` that names the problem of the table.
    """
    if draws < 1:
        raise UserError(f"--draws={draws}: must be 1 or more")
    if bootstrap < 0:
        raise UserError(f"--bootstrap={bootstrap}: must be 0 or more")
    table = read_predictions(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {"predictions": str(path), "sha256": digest} | ({"data": data} if data else {})
    score_table(table, out, about, draws, bootstrap)


def score_table(
    table: Predictions, out: pathlib.Path, about: dict[str, Any], draws: int, bootstrap: int
) -> None:
    """Scores a table, prints a summary and writes `scores.json` into the folder `out`."""
    result = protocol.score(table, draws=draws, bootstrap=bootstrap)
    if not result.values:
        raise UserError(
            f"{about['predictions']}: no face has a label to score a prediction against"
        )
    not_scored = protocol.describe_unscored(table)
    if not_scored:
        about = about | {"not_scored": not_scored}
    with writing_to(out):
        protocol.write_scores(
            result, out / "scores.json", about | _settings(table, draws, bootstrap)
        )
    print(protocol.format_summary(result))
    if not_scored:
        print(f"\nnot scored: {'; '.join(not_scored)}")
    print(f"\nwritten: {out / 'scores.json'}")


@contextlib.contextmanager
def writing_to(out: pathlib.Path) -> Iterator[None]:
    """Creates a folder and turns any `OSError` of the block into a `UserError`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error


def _settings(table: Predictions, draws: int, bootstrap: int) -> dict[str, Any]:
    """Settings that reproduce the numbers of `scores.json`."""
    return {
        "faces": len(table),
        "classes": list(table.classes),
        "draws": draws,
        "bootstrap": bootstrap,
        "interval": confidence_intervals.CONFIDENCE_LEVEL,
        "seed": 0,
        "time": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
