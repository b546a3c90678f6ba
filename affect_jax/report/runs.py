"""What a page tells of: one run's scores, predictions, config, curves and pictures."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from affect_jax.config import flatten
from affect_jax.core.errors import UserError
from affect_jax.metrics.base import Scores
from affect_jax.metrics.predictions import Predictions, read_predictions


@dataclasses.dataclass(frozen=True)
class Curve:
    """One number over training: int [T] steps, float [T] values."""

    steps: np.ndarray
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Where in a face a network saw its prediction: Grad-CAM.

    **Arguments:**

    - `row`: the face's place in the table of predictions.
    - `face`: uint8 [c, c, 3], what the network was given.
    - `heat`: float [c, c] in [0, 1]; 0 everywhere where nothing spoke for the prediction.
    """

    row: int
    face: np.ndarray
    heat: np.ndarray


@dataclasses.dataclass(frozen=True)
class Run:
    """**Arguments:**

    - `name`: what a comparison calls it.
    - `about`: where the predictions come from, `scores.json`'s.
    - `scores`: as `scores.json` has them.
    - `table`: the predictions and their labels.
    - `config`: flat; empty where it is not known.
    - `curves`: of training, by the names of `metrics.jsonl`; empty where there are none.
    - `seconds`: from the first to the last line of that log.
    - `faces`: by row of the table, uint8 [S, S, 3]: those that could be had.
    - `explanations`: Grad-CAM of some faces.
    """

    name: str
    about: Mapping[str, Any]
    scores: Scores
    table: Predictions
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    curves: Mapping[str, Curve] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    faces: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)
    explanations: Sequence[Explanation] = ()


def read(path: pathlib.Path) -> Run:
    """A run from its files, without pictures of faces.

    **Arguments:**

    - `path`: a workdir with one evaluation; or the folder of an evaluation, which holds
      `scores.json`.

    **Raises:** `UserError` where something is missing, damaged or ambiguous.
    """
    folder = _evaluation(path)
    content = _json(folder / "scores.json")
    try:
        scores = scores_of(content)
        about = dict(content["about"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / 'scores.json'}: not written by affect_jax: {error}") from error
    table = read_predictions(_table_path(folder, about))
    if table.probabilities is None and "classes" in about:  # their names are no columns
        table = dataclasses.replace(table, classes=tuple(about["classes"]))
    workdir = folder.parents[1] if folder.parent.name == "evaluation" else folder
    config, curves, seconds = training(workdir)
    name = workdir.resolve().name
    return Run(name, about, scores, table, config, curves, seconds)


def training(workdir: pathlib.Path) -> tuple[dict[str, Any], dict[str, Curve], float]:
    """A workdir's config, flat; its curves; and the seconds from first to last line of its log."""
    config = workdir / "config.json"
    log = workdir / "metrics.jsonl"
    flat = flatten(_json(config)) if config.is_file() else {}
    return flat, *(_curves(log) if log.is_file() else ({}, 0.0))


def _evaluation(path: pathlib.Path) -> pathlib.Path:
    if (path / "scores.json").is_file():
        return path
    found = sorted((path / "evaluation").glob("*/scores.json"))
    if len(found) == 1:
        return found[0].parent
    if found:
        folders = ", ".join(str(one.parent) for one in found)
        raise UserError(f"{path}: several evaluations; name one of {folders}")
    raise UserError(f"{path}: no scores.json; --mode=evaluate or affect_jax.evaluate writes it")


def _table_path(folder: pathlib.Path, about: Mapping[str, Any]) -> pathlib.Path:
    """A checkpoint's table lies beside its scores; a scored file must be the one it was."""
    if "sha256" not in about:
        return folder / "predictions.parquet"
    path = pathlib.Path(about["predictions"])
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != about["sha256"]:
        raise UserError(f"{path}: changed since {folder / 'scores.json'}; score it again")
    return path


def _json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def scores_of(content: Mapping[str, Any]) -> Scores:
    """The scores of a `scores.json`."""

    def numbers(name: str) -> dict[str, float]:
        return {k: math.nan if v is None else float(v) for k, v in content[name].items()}

    def pairs(name: str, kind: Callable) -> dict[str, tuple]:
        return {k: (kind(low), kind(high)) for k, (low, high) in content[name].items()}

    return Scores(
        values=numbers("scores"),
        intervals=pairs("intervals", float),
        deviations=numbers("deviations"),
        reasons=dict(content["undefined"]),
        counts=pairs("counts", int),
    )


def _curves(path: pathlib.Path) -> tuple[dict[str, Curve], float]:
    """Every number of the log, in the order of its steps; a line cut short is left out."""
    points: dict[str, list[tuple[int, float]]] = {}
    times = []
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        step, time = line.pop("step"), line.pop("time")
        times.append(time)
        for name, value in line.items():
            if value is not None:
                points.setdefault(name, []).append((step, value))
    curves = {}
    for name, pairs in points.items():
        steps, values = zip(*pairs, strict=True)
        curves[name] = Curve(np.array(steps), np.array(values, float))
    return curves, times[-1] - times[0] if times else 0.0
