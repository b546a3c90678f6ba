"""One table of predictions scored by every protocol in use: "AffectNet-7" alone names three."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from affect_jax.core.labels import AXES, EXPRESSIONS, canonical_name
from affect_jax.metrics import categorical, protocol, resampling
from affect_jax.metrics.base import Scorer, Scores, nanmean, score_faces
from affect_jax.metrics.predictions import Predictions
from affect_jax.metrics.protocol import MULTITASK_PARTS, nan_to_none

CLEANED = "expression_correct"  # the grouping with EmoNet's flags: true or 1 for a correct label
TOP1 = {"accuracy": "categorical.top1.original.accuracy", "macro-F1": MULTITASK_PARTS[1]}
NORMALISED = {key: name.replace("original", "normalised") for key, name in TOP1.items()}
CLEAN = TOP1 | {f"CCC, {axis}": f"dimensional.{axis}.ccc" for axis in AXES}
ABAW = {"macro-F1": MULTITASK_PARTS[1], "mean CCC": MULTITASK_PARTS[0]}
ABAW |= {"mean F1 of units": MULTITASK_PARTS[2], "sum": "multitask"}
UNITS = {"F1": "f1", "best F1": "best_f1", "ICC(3,1)": "icc", "MAE": "mae", "PCC": "corr"}
UNITS = {header: f"action_units.mean.{metric}" for header, metric in UNITS.items()}
HEADERS = ("protocol", "score", "value", "95 % interval", "faces")


def score_protocols(
    tables: Sequence[Predictions],
    scores: Scores,
    groups: Mapping[str, Mapping[str, Any]],
    *,
    bootstrap: int,
) -> dict[str, dict[str, Any]]:
    """Scores predictions by each protocol.

    **Arguments:**

    - `tables`: the predictions of a network, or of each seed of a study.
    - `scores`: their scores: the return value of `protocol.score` or `score_study`.
    - `groups`: see `evaluate.scoring.score_groups`. The group true of the grouping
      `CLEANED` is EmoNet's cleaned subset.
    - `bootstrap`: number of bootstrap samples for the intervals.

    **Returns:** the value of `protocols` in `scores.json`: by protocol, `source` and either
    `faces`, `scores` and `intervals`, or `not_scored`, the reason.
    """
    predictions = tables[0]
    inputs = protocol.select_inputs(predictions)
    faces = {model: rows.tolist() for model, (rows, _) in inputs.items()}
    names = tuple(map(canonical_name, predictions.classes))
    is_affectnet = names == EXPRESSIONS[: len(names)] and "categorical" in faces
    not7, not8 = (
        "" if is_affectnet and len(names) == count else f"needs AffectNet’s first {count} classes"
        for count in (7, 8)
    )
    not_dropped = not8 or ("needs probabilities" if predictions.is_hard else "")
    flags = {flag.lower(): group for flag, group in groups.get(CLEANED, {}).items()}
    if clean := flags.get("true") or flags.get("1") or {}:
        clean = {**clean, "faces": clean["labelled"].get("categorical", 0)}
    not_clean = not8 or ("" if clean else f"needs the column {CLEANED} in --groups")
    not_abaw = "" if set(MULTITASK_PARTS) <= scores.values.keys() else "needs all three models"
    not_units = "" if "action_units" in faces else "needs action units"
    drop, keep = (
        {} if reason else _score_without_contempt(tables, bootstrap, drop)
        for reason, drop in ((not_dropped, True), (not8, False))
    )
    own = {"scores": nan_to_none(scores.values), "intervals": scores.intervals}
    labelled, units = (
        own | {"faces": len(faces.get(model, ()))} for model in ("categorical", "action_units")
    )
    any_label = own | {"faces": len(set().union(*faces.values()))}
    paper = "Mollahosseini et al. 2017"
    rows = {
        "8 classes": (paper, not8, labelled, TOP1),
        "8 classes, equally frequent": (paper, not8, labelled, NORMALISED),
        "8 classes, cleaned labels": ("EmoNet", not_clean, clean, CLEAN),
        "7 classes, without contempt": ("DDAMFN", not7, labelled, TOP1),
        "7 classes, output of contempt dropped": ("EmotiEffLib", not_dropped, drop, TOP1),
        "7 classes, predicted contempt is an error": ("Py-Feat", not8, keep, TOP1),
        "ABAW": ("Kollias 2022", not_abaw, any_label, ABAW),
        "action units": ("FERA 2017", not_units, units, UNITS),
    }
    return {
        title: {"source": source, "not_scored": reason}
        if reason
        else {"source": source, "faces": found["faces"]}
        | {
            kind: {key: found[kind][name] for key, name in selected.items() if name in found[kind]}
            for kind in ("scores", "intervals")
        }
        for title, (source, reason, found, selected) in rows.items()
    }


def _score_without_contempt(
    tables: Sequence[Predictions], bootstrap: int, drop: bool
) -> dict[str, Any]:
    """Scores 8-class predictions on the faces of the first 7 classes, and averages over seeds.

    **Arguments:** `drop`: whether the output of contempt is ignored; if not, predicting it is an
    error.
    """
    _, (labels, *_) = protocol.select_inputs(tables[0])["categorical"]
    num_faces = int(np.sum(labels < 7))
    scorers = [_create_scorer(table, drop) for table in tables]
    members = [score_faces(scorer, num_faces).values for scorer in scorers]
    values = {name: float(np.mean([x[name] for x in members])) for name in members[0]}
    sampled = {}
    if bootstrap and num_faces:
        samples = [
            resampling.bootstrap_scores(scorer, num_faces, replicates=bootstrap)
            for scorer in scorers
        ]
        sampled = resampling.average_seeds(samples)
    intervals = resampling.compute_intervals(values, sampled)
    return {"faces": num_faces, "scores": nan_to_none(values), "intervals": intervals}


def _create_scorer(table: Predictions, drop: bool) -> Scorer:
    _, (labels, probabilities, _) = protocol.select_inputs(table)["categorical"]
    labels, probabilities = labels[labels < 7], probabilities[labels < 7]
    predicted = categorical.predict_top1(probabilities[:, :7] if drop else probabilities)

    def score(weights: np.ndarray) -> dict[str, np.ndarray]:
        confusion = categorical.confusion_matrices(labels, predicted, 8, weights)
        accuracy = categorical.score_agreement(confusion)["accuracy"]
        f1 = nanmean(categorical.score_classes(confusion)["f1"][:7])
        return {TOP1["accuracy"]: accuracy, TOP1["macro-F1"]: f1}

    return score


def list_rows(protocols: Mapping[str, Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Lists the cells below `HEADERS`; a protocol that cannot score has one row with the reason."""
    rows = []
    for title, row in protocols.items():
        title = f"{title} ({row['source']})"
        if "not_scored" in row:
            rows.append((title, f"not scored: {row['not_scored']}", "", "", ""))
        for key, value in row.get("scores", {}).items():
            interval = " to ".join(f"{end:.3f}" for end in row["intervals"].get(key, ()))
            number = "undefined" if value is None else f"{value:.3f}"
            rows.append((title, key, number, interval, f"{row['faces']:,}"))
    return rows
