"""The report of one run: `report.html`, its figures as PNG files and as TensorBoard images."""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from affect_jax.core import plotting
from affect_jax.evaluate.scoring import writing_to
from affect_jax.facs.action_units import ACTION_UNITS
from affect_jax.metrics.categorical import confusion_matrix, normalize_rows, predict_top1
from affect_jax.metrics.protocol import select_headlines
from affect_jax.report import (
    emotion_figures,
    figures,
    galleries,
    published_scores,
    run_summary,
    score_names,
)
from affect_jax.report.runs import Run
from affect_jax.report.templating import render_template, write_atomically

if TYPE_CHECKING:  # the module imports JAX
    from affect_jax.train.log_writers import TensorBoardWriter

CARD_SCORES = (
    "categorical.top1.original.accuracy",
    "categorical.top1.original.f1.macro",
    "categorical.top1.normalised.f1.macro",
    "categorical.top1.original.kappa",
    "dimensional.valence.ccc",
    "dimensional.arousal.ccc",
    "action_units.mean.f1",
    "action_units.mean.auc",
    "multitask",
)
"""Scores shown in large type, if the run has them."""


def write_report(
    run: Run,
    folder: pathlib.Path,
    *,
    page: str = "report.html",
    writer: TensorBoardWriter | None = None,
) -> pathlib.Path:
    """Writes the page and `figures/*.png` into a folder.

    **Arguments:**

    - `page`: file name of the page.
    - `writer`: optional writer that also logs the figures as images, at the checkpoint's step.

    **Returns:** the page's path.

    **Raises:** `UserError` if the folder cannot be written.
    """
    with writing_to(folder / "figures"):
        panels = draw_figures(run)
        write_atomically(folder / page, render_html(run, panels))
        images = {name: np.hstack(panels[name]) for name in panels} | galleries.draw_sheets(run)
        for name, pixels in images.items():
            Image.fromarray(pixels).save(folder / "figures" / f"{name}.png")
    if writer is not None:
        step = int(run.metadata.get("checkpoint_step", 0))
        writer.write_images(step, {f"report/{name}": pixels for name, pixels in images.items()})
    return folder / page


def draw_figures(run: Run) -> dict[str, list[np.ndarray]]:
    """Draws the panels of each figure for which the run has data: uint8 [H, W, 3]."""
    with plotting.style():
        drawn = figures.draw_expression(run, _published_scores(run))
        drawn |= emotion_figures.draw_dimensional(run) | emotion_figures.draw_units(run)
        drawn |= figures.draw_learning_curves([run])
        return {name: list(map(plotting.render, panels)) for name, panels in drawn.items()}


def render_html(run: Run, panels: Mapping[str, Sequence[np.ndarray]]) -> str:
    """Renders the page with the panels of `draw_figures`."""
    comparable, notice = run_summary.describe_comparability(run)
    context: dict[str, Any] = {
        "heading": run_summary.format_heading(run),
        "lead": run_summary.format_lead(run),
        "data_notice": notice,
        "comparable": comparable,
        "run": run,
        "scores": run.scores,
        "facts": run_summary.summarize(run),
        "config": {key: json.dumps(value) for key, value in run.config.items()},
        "published": _published_scores(run),
        "cards": [name for name in CARD_SCORES if name in run.scores.values],
        "headlines": {
            model: list(names)
            for model, names in itertools.groupby(
                select_headlines(run.scores), score_names.lookup_model_name
            )
        },
        "figures": panels,
        "classes": _count_classes(run),
        "f1_columns": {
            f"categorical.{rule}.{skew}.f1": (
                f"{score_names.RULE_NAMES[rule]} {score_names.SKEW_NAMES[skew]}"
            )
            for rule, skew in published_scores.TABLE7_COLUMNS
        },
        "matrix": _create_confusion_rows(run),
        "units": _list_units(run),
        "galleries": galleries.create_galleries(run),
        "grad_cam": galleries.create_grad_cam_examples(run),
    }
    sections = [
        ("run", "Run", True),
        ("scores", "Headline scores", True),
        ("classes", "Scores by class", context["classes"]),
        ("confusion", "Confusion matrix", context["classes"]),
        ("curves", "Precision and recall", context["classes"]),
        ("reliability", "Reliability", context["classes"]),
        ("plane", "Valence and arousal", "plane" in panels),
        ("units", "Action units", context["units"]),
        ("groups", "Scores by group", run.groups),
        ("training", "Learning curves", "learning_curves" in panels),
        ("faces", "Faces", context["galleries"]),
        ("explanations", "Grad-CAM", context["grad_cam"]),
        ("all", "All scores", True),
    ]
    return render_template("report.html", context, sections)


def _published_scores(run: Run) -> dict[str, float]:
    """Returns the paper's scores, empty if the run is not comparable with them."""
    if published_scores.why_not_comparable(run.metadata, run.predictions):
        return {}
    return published_scores.select_published(run.config, run.predictions.classes)


def _count_classes(run: Run) -> dict[str, int]:
    """Returns the number of labelled faces of each class; empty without a categorical model."""
    labels, classes = run.predictions.expression, run.predictions.classes
    if labels is None or "categorical.top1.original.accuracy" not in run.scores.values:
        return {}
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    return dict(zip(classes, counts.tolist(), strict=True))


def _create_confusion_rows(run: Run) -> dict[str, list[tuple[int, float]]]:
    """Returns (number of faces, fraction of the row) of each cell, by the class of the row."""
    predictions = run.predictions
    if predictions.expression is None or predictions.probabilities is None:
        return {}
    rows = predictions.expression >= 0
    predicted = predict_top1(predictions.probabilities[rows])
    counts = confusion_matrix(predictions.expression[rows], predicted, len(predictions.classes))
    shares = normalize_rows(counts)
    return {
        name: list(zip(row.tolist(), share.tolist(), strict=True))
        for name, row, share in zip(predictions.classes, counts, shares, strict=True)
    }


def _list_units(run: Run) -> dict[str, str]:
    """Returns the name in words of each scored unit, and the mean."""
    words = {unit.number: unit.name for unit in ACTION_UNITS}
    units = {
        f"AU{unit}": words.get(unit, "")
        for unit in run.predictions.units
        if f"action_units.AU{unit}.f1" in run.scores.values
    }
    return units | {"mean": ""} if units else {}
