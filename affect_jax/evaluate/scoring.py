"""Scores a table of predictions and writes `scores.json`. Needs neither JAX nor a network."""

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
    """Scores a file of predictions; see `affect_jax.metrics.predictions` for its columns.

    **Arguments:**

    - `out`: folder for `scores.json`.
    - `draws`: of the skew-normalised scores.
    - `bootstrap`: samples for the intervals; 0: no intervals.
    - `data`: the data set's name, for the report. `affectnet` lets the report show the paper's
      numbers if the labels are AffectNet's.

    **Raises:** `UserError` that names what is wrong with the table.
    """
    if draws < 1 or bootstrap < 0:
        raise UserError(f"--draws={draws} --bootstrap={bootstrap}: must be 1 or more, 0 or more")
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
    left_out = protocol.not_scored(table)
    if left_out:
        about = about | {"not_scored": left_out}
    with writing_to(out):
        protocol.write(result, out / "scores.json", about | _settings(table, draws, bootstrap))
    print(protocol.summary(result))
    if left_out:
        print(f"\nnot scored: {'; '.join(left_out)}")
    print(f"\nwritten: {out / 'scores.json'}")


@contextlib.contextmanager
def writing_to(out: pathlib.Path) -> Iterator[None]:
    """Creates a folder; turns an `OSError` of it, or of what is written into it, into a `UserError`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error


def _settings(table: Predictions, draws: int, bootstrap: int) -> dict[str, Any]:
    """How the numbers of `scores.json` were computed."""
    return {
        "faces": len(table),
        "classes": list(table.classes),
        "draws": draws,
        "bootstrap": bootstrap,
        "interval": confidence_intervals.LEVEL,
        "seed": 0,
        "time": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
