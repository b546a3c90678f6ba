"""Reads a run's scores, predictions, config and learning curves for its report."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import operator
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from affect_jax.config import PROCESS_KEYS, flatten
from affect_jax.core.errors import UserError
from affect_jax.core.labels import EXPRESSIONS, canonical_name
from affect_jax.core.registry import matches_type
from affect_jax.evaluate import scoring
from affect_jax.metrics import protocol, protocol_matrix, system_scores
from affect_jax.metrics.base import Scores
from affect_jax.metrics.predictions import Predictions, drop_contempt, read_predictions
from affect_jax.metrics.resampling import REPLICATES

INTEGERS = dict.fromkeys(("draws", "bootstrap", "checkpoint_step"), int)
ABOUT_TYPES = {"data": str, "classes": Sequence[str], **INTEGERS}
"""The values of `about` in `scores.json` whose type a report needs."""


class Curve(NamedTuple):
    """One metric over training: int [T] steps, float [T] values; of a study, means and standard
    deviations over seeds."""

    steps: np.ndarray
    values: np.ndarray
    deviations: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """An evaluated run, or a study: the mean of runs that differ in their seeds only.

    **Arguments:**

    - `name`: name in comparisons.
    - `metadata`: `about` of `scores.json`, the origin of the predictions.
    - `scores`: the scores of `scores.json`.
    - `predictions`: the predictions and their labels; of a study, those of its first seed.
    - `members`: of a study, the predictions of each seed; empty for a run.
    - `config`: flat; empty if unknown.
    - `curves`: learning curves by the names in `metrics.jsonl`.
    - `groups`: `{grouping: {group: (number of faces, scores)}}`, from `scores.json`.
    - `group_differences`, `protocols`: the return values of `scoring.compare_groups` and
      `protocol_matrix.score_protocols`, from `scores.json`.
    - `evaluations`: scores of all evaluations of a run, by `DATA-SPLIT`.
    - `faces`: available face images, uint8 [S, S, 3], by row of the predictions.
    - `grad_cam`: for some rows, the network's input, uint8 [c, c, 3], and its heatmap, float [c, c]
      in [0, 1]; all 0 if no region supports the prediction.
    """

    name: str
    metadata: Mapping[str, Any]
    scores: Scores
    predictions: Predictions
    members: Sequence[Predictions] = ()
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    curves: Mapping[str, Curve] = dataclasses.field(default_factory=dict)
    groups: Mapping[str, Mapping[str, tuple[int, Scores]]] = dataclasses.field(default_factory=dict)
    group_differences: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    protocols: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    evaluations: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    faces: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)
    grad_cam: Mapping[int, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)

    def settings(self) -> dict[str, int]:
        """The numbers of draws and bootstrap samples with which the run is scored."""
        return {"draws": 200, "bootstrap": REPLICATES} | {
            key: self.metadata[key] for key in ("draws", "bootstrap") if key in self.metadata
        }


def read_run(path: pathlib.Path) -> Run:
    """Reads a run from its files, without face images.

    **Arguments:** `path`: a workdir with one evaluation, the folder of an evaluation with
    `scores.json`, a file of predictions, which is scored, or a study: a folder of runs `seed0`,
    `seed1`, ...

    **Raises:** `UserError` if a file is missing or damaged, or the evaluation is ambiguous.
    """
    if path.is_file():
        return _score(Run(path.stem, {}, Scores(), read_predictions(path)))
    if seeds := sorted(path.glob("seed[0-9]*/")):
        return create_study(path.resolve().name, [read_run(folder) for folder in seeds])
    if options := sorted({str(folder.parent) for folder in path.glob("*/seed[0-9]*/")}):
        raise UserError(f"{path}: a study of several options; choose one of {', '.join(options)}")
    folder = _find_evaluation(path)
    workdir = folder.parents[1] if folder.parent.name == "evaluation" else folder
    config, log = workdir / "config.json", workdir / "metrics.jsonl"
    return dataclasses.replace(
        _read_evaluation(folder),
        name=workdir.resolve().name,
        config=flatten(_read_json(config)) if config.is_file() else {},
        curves=_read_curves(log) if log.is_file() else {},
        evaluations=_read_evaluations(workdir),
    )


def _find_evaluation(path: pathlib.Path) -> pathlib.Path:
    if (path / "scores.json").is_file():
        return path
    paths = sorted(path.glob("evaluation/*/scores.json"))
    if len(paths) > 1:  # those of other datasets have a folder of their own
        paths = [p for p in paths if "trained_on" not in _read_json(p).get("about", "")] or paths
    folders = [str(found.parent) for found in paths]
    if len(folders) > 1:
        raise UserError(f"{path}: several evaluations; choose one of {', '.join(folders)}")
    if not folders:
        raise UserError(f"{path}: no scores.json; --mode=evaluate writes it")
    return pathlib.Path(folders[0])


def _read_evaluations(workdir: pathlib.Path) -> dict[str, dict[str, float]]:
    evaluations = {}
    for path in sorted(workdir.glob("evaluation/*/scores.json")):
        try:
            content = _read_json(path)
        except UserError:  # damaged; other evaluations can be shown
            continue
        about, scores = content.get("about"), content.get("scores")
        if isinstance(about, dict) and isinstance(scores, dict):
            values = {name: value for name, value in scores.items() if isinstance(value, float)}
            own = f"{about.get('data')}-{about.get('split')}"  # as the folders of other datasets
            evaluations[path.parent.name if "trained_on" in about else own] = values
    return evaluations


def _read_evaluation(folder: pathlib.Path) -> Run:
    """Reads `scores.json`, and the predictions: those in the folder, or the file that it names."""
    path = folder / "scores.json"
    content = _read_json(path)
    try:
        about = content["about"]
        for key, kind in ABOUT_TYPES.items():
            if key in about and not matches_type(about[key], kind):
                raise ValueError(f"{key} is {about[key]!r}")
        scores = _parse_scores(content)
        groups = {
            grouping: {name: (int(x["faces"]), _parse_scores(x)) for name, x in by_group.items()}
            for grouping, by_group in content.get("groups", {}).items()
            if by_group
        }
        differences, protocols = content.get("group_differences", {}), content.get("protocols", {})
        list(map(scoring.list_differences, differences.values()))  # raises if they are damaged
        protocol_matrix.list_rows(protocols)
        is_named = "sha256" in about
        table = pathlib.Path(about["predictions"]) if is_named else folder / "predictions.parquet"
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not written by affect_jax: {error}") from error
    predictions = read_predictions(table)
    if is_named and hashlib.sha256(table.read_bytes()).hexdigest() != about["sha256"]:
        raise UserError(f"{table}: changed since {path}; score it again")
    classes = tuple(about.get("classes", predictions.classes))
    written, read = ([*map(canonical_name, x)] for x in (classes, predictions.classes))
    if predictions.probabilities is not None and sorted(written) != sorted(read):
        raise UserError(f"{path}: has other classes than its predictions")
    if predictions.probabilities is None or written == read:  # else the reader has sorted them
        predictions = dataclasses.replace(predictions, classes=classes)
    parts = {"groups": groups, "group_differences": differences, "protocols": protocols}
    return Run(folder.name, about, scores, predictions, **parts)


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        json.dumps(content, ensure_ascii=False).encode()  # JSON can hold text that files cannot
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not written by affect_jax: it holds no dictionary")
    return content


def _parse_scores(content: Mapping[str, Any]) -> Scores:
    def parse(key: str) -> dict[str, float]:
        return {k: math.nan if v is None else float(v) for k, v in content.get(key, {}).items()}

    return Scores(
        values=parse("scores"),
        intervals={k: (float(low), float(high)) for k, (low, high) in content["intervals"].items()},
        deviations=parse("deviations"),
        counts={k: (int(n), int(total)) for k, (n, total) in content.get("counts", {}).items()},
    )


def _read_curves(path: pathlib.Path) -> dict[str, Curve]:
    """Reads all metrics of the log, in the order of its lines; damaged lines are skipped."""
    points: dict[str, list[tuple[int, float]]] = {}
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
            step = int(line["step"])
            numbers = {name: float(v) for name, v in line.items() if v is not None}
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError, AttributeError):
            continue
        for name, value in numbers.items():
            points.setdefault(name, []).append((step, value))
    return {name: Curve(*map(np.array, zip(*pairs, strict=True))) for name, pairs in points.items()}


def create_study(name: str, seeds: Sequence[Run]) -> Run:
    """Combines runs with other seeds into one system and scores it.

    **Raises:** `UserError` if other settings differ, or if faces or labels differ.
    """
    first = seeds[0]
    if keys := sorted(set(compare_configs(seeds)) - {"seed", *PROCESS_KEYS}):
        raise UserError(
            f"{name}: the runs of a study must differ in their seeds only, but {keys[0]} differs"
        )
    curves = {}
    for metric in first.curves:
        logged = [run.curves[metric] for run in seeds if metric in run.curves]
        points = [dict(zip(curve.steps, curve.values, strict=True)) for curve in logged]
        steps = sorted(set.intersection(*map(set, points)))
        values = np.array([[by_step[step] for step in steps] for by_step in points])
        deviations = values.std(axis=0, ddof=min(1, len(points) - 1))
        curves[metric] = Curve(np.array(steps), values.mean(axis=0), deviations)
    try:
        members = tuple(system_scores.align(first.predictions, run.predictions) for run in seeds)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    config = first.config | {"seed": [run.config["seed"] for run in seeds if run.config]}
    changes = {"config": config, "members": members, "curves": curves, "evaluations": {}}
    return _score(dataclasses.replace(first, name=name, groups={}, group_differences={}, **changes))


def compare_configs(compared: Sequence[Run]) -> dict[str, list[str]]:
    """Returns the values of config keys that differ, one of each run; "" if it lacks the key."""
    configs = [run.config for run in compared]
    settings = {
        key: [json.dumps(config[key]) if key in config else "" for config in configs]
        for key in sorted(set().union(*configs))
    }
    return {key: values for key, values in settings.items() if len(set(values)) > 1}


def match_faces(compared: Sequence[Run]) -> list[Run]:
    """Restricts runs to the faces that all have, by id, and to 7 classes if one has AffectNet's
    first 7; runs that change are scored again.

    **Raises:** `UserError` if they have no face in common.
    """
    common = set.intersection(*(set(run.predictions.id.tolist()) for run in compared))
    if not common:
        names = ", ".join(run.name for run in compared)
        raise UserError(f"systems must be compared on the same faces, but no id is in all: {names}")
    names = [tuple(map(canonical_name, run.predictions.classes)) for run in compared]
    matched = []
    for run, classes in zip(compared, names, strict=True):
        if EXPRESSIONS[:7] in names and classes == EXPRESSIONS[:8]:
            probabilities, name = run.predictions.probabilities, run.name
            if probabilities is not None:
                name = f"{name} (contempt dropped)"
                if run.predictions.is_hard and probabilities[:, 7].any():
                    raise UserError(f"{run.name}: needs probabilities to leave out contempt")
            run = _change(run, drop_contempt, name=name)
        rows = np.flatnonzero([name in common for name in run.predictions.id.tolist()])
        if len(rows) < len(run.predictions):
            select = operator.methodcaller("select", rows)
            run = _change(run, select, groups={}, group_differences={}, faces={})
        matched.append(run)
    return matched


def _change(run: Run, change: Callable[[Predictions], Predictions], **fields: Any) -> Run:
    """Changes the predictions and other fields of a run, and scores it again."""
    fields |= {"predictions": change(run.predictions), "members": [*map(change, run.members)]}
    return _score(dataclasses.replace(run, **fields))


def _score(run: Run) -> Run:
    """Scores the predictions of a run, or of a study as the mean over its members."""
    settings, tables = run.settings(), run.members or [run.predictions]
    if run.members:
        scores = system_scores.score_study(tables, **settings)
    else:
        scores = protocol.score(run.predictions, **settings)
    bootstrap = settings["bootstrap"]
    protocols = protocol_matrix.score_protocols(tables, scores, {}, bootstrap=bootstrap)
    return dataclasses.replace(run, scores=scores, protocols=protocols, grad_cam={})


def count_faces(predictions: Predictions) -> np.ndarray:
    """Counts the faces labelled as each class: int64 [C]."""
    assert predictions.expression is not None
    labels = predictions.expression[predictions.expression >= 0]
    return np.bincount(labels, minlength=len(predictions.classes))
