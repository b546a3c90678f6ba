"""Figures of a report: expression, valence and arousal, action units, learning curves.

The page places the panels of a figure next to each other on a wide screen and below each other on a
phone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from affect_jax.core import plotting
from affect_jax.core.labels import AXES
from affect_jax.core.plotting import BLUE, MUTED, ORANGE, create_panel, truncate
from affect_jax.facs.action_units import PROTOTYPES
from affect_jax.metrics import auc_scores, calibration
from affect_jax.metrics.predictions import Predictions
from affect_jax.report import score_names
from affect_jax.report.runs import Run, count_faces
from affect_jax.train.tensorboard_images import draw_confusion

WIDTH = 420  # of a panel in CSS pixels: two fit next to each other
LINE = {"color": MUTED, "linestyle": (0, (4, 3)), "linewidth": 1}
"""A dashed line to compare with."""

CURVES = {
    "train.loss": "Training loss",
    "evaluation.loss": "Evaluation loss",
    **{
        name: score_names.format_title(name)
        for name in (
            "categorical.top1.original.accuracy",
            "categorical.top1.original.f1.macro",
            "dimensional.mean.ccc",
            "action_units.mean.f1",
        )
    },
    "train.learning_rate": "Learning rate",
}
"""Titles of the metrics shown over training, if a run logs them."""


class Figure(NamedTuple):
    """Panels, an alternative text that describes them, and a caption: how to read them.

    A panel is a pair of matplotlib axes, later its image: uint8 [H, W, 3].
    """

    panels: Sequence[Any]
    alt: str
    caption: str


Figures = dict[str, Figure]
"""Figures by name, which is also the name of its file."""


def render(figures: Figures) -> Figures:
    """Renders the panels of the figures."""
    return {
        name: figure._replace(panels=list(map(plotting.render, figure.panels)))
        for name, figure in figures.items()
    }


def select_classes(predictions: Predictions) -> list[int]:
    """Selects the classes to show: all, or the `MAX_NAMES` with the most faces; sorted ids."""
    most_faces = np.argsort(-count_faces(predictions), kind="stable")
    return sorted(most_faces[: plotting.MAX_NAMES].tolist())


def draw_expression(run: Run) -> Figures:
    """Draws the figures of the categorical model; empty if the run has none."""
    if "categorical.top1.original.accuracy" not in run.scores.values:
        return {}
    assert run.predictions.expression is not None
    table = run.predictions.select(np.flatnonzero(run.predictions.expression >= 0))
    run = dataclasses.replace(run, predictions=table)
    drawn = {
        "f1_by_class": Figure(
            [_draw_f1(run, rule) for rule in ("top1", "top2")[: 1 if table.is_hard else 2]],
            "Dot plots of F1 by class. The table has all values.",
            "Dots are scores, lines their 95 % intervals. Circle: original class distribution "
            "(Orig); diamond: equally frequent classes (Norm).",
        ),
        "confusion": Figure(
            [draw_confusion(table)],
            "Matrix of labels (rows) and predictions (columns): fraction of each row.",
            "Rows are labels, columns are top-1 predictions. A cell has the fraction of the row, "
            "so the diagonal shows recall.",
        ),
    }
    if table.is_hard:
        return drawn
    return drawn | {
        "precision_recall": Figure(
            _draw_precision_recall(run),
            "One precision-recall curve per class.",
            "The number in each title is the area under the curve (AUC-PR). The dashed line is "
            "the class frequency, the precision of random predictions.",
        ),
        "reliability": Figure(
            [_draw_reliability(run)],
            "Accuracy against confidence.",
            "Confidence is the probability of the most probable class. On the dashed line "
            "accuracy equals confidence; below it the model is overconfident. A dot’s size is its "
            "number of faces.",
        ),
    }


def _draw_f1(run: Run, rule: str) -> Axes:
    """Draws F1 of each class, the first on top, as dots and their intervals as lines."""
    classes = [run.predictions.classes[i] for i in select_classes(run.predictions)]
    title = score_names.RULE_NAMES[rule]
    panel = create_panel(WIDTH, 25 * len(classes) + 90, title=title, xlabel="F1")
    for i, (skew, label) in enumerate(score_names.SKEW_NAMES.items()):
        names = [f"categorical.{rule}.{skew}.f1.{name}" for name in classes]
        colour, marker = plotting.SERIES_STYLES[i]
        positions = np.arange(len(names)) + (-0.15, 0.15)[i]
        ends = np.array([run.scores.intervals.get(name, (np.nan, np.nan)) for name in names])
        panel.hlines(positions, *ends.T, color=colour, linewidth=1.6)
        values = [run.scores.values.get(name, np.nan) for name in names]
        panel.plot(values, positions, marker, color=colour, label=label)
    panel.set(xlim=(-0.02, 1.02), ylim=(len(classes) - 0.5, -0.5))
    panel.set_yticks(range(len(classes)), list(map(truncate, classes)))
    panel.spines["left"].set_visible(False)
    panel.figure.legend(loc="outside upper right", ncols=3)
    return panel


def _draw_precision_recall(run: Run) -> list[Axes]:
    table, panels = run.predictions, []
    assert table.probabilities is not None
    for i in select_classes(table):
        positive = table.expression == i
        if not positive.any():
            continue
        curve = auc_scores.compute_precision_recall_curve(table.probabilities[:, i], positive)
        recall, precision = np.r_[0, curve[2]], np.r_[curve[1][:1], curve[1]]
        name = table.classes[i]
        area = run.scores.values.get(f"categorical.top1.original.auc_pr.{name}")
        title = f"{truncate(name)}  {score_names.format_score(area)}"
        panel = create_panel(210, 195, title=title, xlabel="recall", ylabel="precision")
        panel.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0.5, 1))
        panel.plot(recall, precision, drawstyle="steps-pre", color=BLUE)
        panel.axhline(float(np.mean(positive)), **LINE)
        panels.append(panel)
    return panels


def _draw_reliability(run: Run) -> Axes:
    table = run.predictions
    assert table.expression is not None and table.probabilities is not None
    confidence, accuracy, count = calibration.compute_reliability_curve(
        table.expression, table.probabilities
    )
    error = run.scores.values.get("categorical.top1.original.calibration_error")
    title = f"Reliability  ECE {score_names.format_score(error)}"
    panel = create_panel(WIDTH, 390, title=title, xlabel="confidence", ylabel="accuracy")
    panel.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    panel.plot((0, 1), (0, 1), **LINE)
    panel.plot(confidence, accuracy, color=BLUE, linewidth=1)
    panel.scatter(confidence, accuracy, 14 + 130 * count / count.max(), color=BLUE, zorder=3)
    return panel


def draw_dimensional(run: Run) -> Figures:
    """Draws the agreement of predictions and labels; empty without scores."""
    if "dimensional.valence.ccc" not in run.scores.values:
        return {}
    table = run.predictions
    assert table.valence_arousal is not None and table.valence_arousal_predicted is not None
    annotated = np.isfinite(table.valence_arousal).all(axis=1)
    ticks = (-1, -0.5, 0, 0.5, 1)
    axes = {"xlabel": "label", "ylabel": "predicted", "xticks": ticks, "yticks": ticks}
    axes |= {"xlim": (-1.05, 1.05), "ylim": (-1.05, 1.05), "aspect": "equal"}
    shades = {"gridsize": 26, "bins": "log", "mincnt": 1, "linewidths": 0.1}
    panels = []
    for i, axis in enumerate(AXES):
        names = (f"dimensional.{axis}.ccc", f"dimensional.{axis}.rmse")
        ccc, rmse = (score_names.format_score(run.scores.values.get(name)) for name in names)
        panel = create_panel(WIDTH, 430, title=f"{axis}  CCC {ccc}, RMSE {rmse}", **axes)
        panel.grid(False)
        points = table.valence_arousal[annotated, i], table.valence_arousal_predicted[annotated, i]
        panel.hexbin(*points, extent=(-1, 1, -1, 1), cmap=plotting.COLORMAP, **shades)
        panel.plot((-1, 1), (-1, 1), **LINE | {"color": ORANGE, "linewidth": 1.2})
        panels.append(panel)
    caption = (
        "Predictions against labels. Darker hexagons contain more faces. On the dashed line "
        "prediction equals label."
    )
    alt = "Density plots of prediction against label, of valence and of arousal."
    return {"agreement": Figure(panels, alt, caption)}


def draw_units(run: Run) -> Figures:
    """Draws the mean action units of the faces of each emotion; empty without units or labels."""
    table = run.predictions
    if table.expression is None or "action_units.mean.f1" not in run.scores.values:
        return {}
    assert table.action_units is not None and table.action_units_predicted is not None
    shown = [i for i in select_classes(table) if (table.expression == i).any()]
    if not shown:
        return {}
    emotions, units = [table.classes[i] for i in shown], table.units
    tables, panels = {"Predicted": table.action_units_predicted, "Labels": table.action_units}, []
    for title, values in tables.items():
        annotated = np.ma.masked_invalid(values)
        means = [annotated[table.expression == i].mean(axis=0).filled(0) for i in shown]
        cells = np.stack(means, axis=1)
        texts = np.where(cells >= 0.095, np.char.mod("%.0f", 100 * cells), "")
        panel = create_panel(WIDTH, 24 * len(units) + 110, title=title)
        plotting.draw_cells(panel, cells, texts, [f"AU{unit}" for unit in units], emotions)
        for column, emotion in enumerate(emotions):
            for unit in set(PROTOTYPES.get(emotion, ())) & set(units):
                corner = (column, units.index(unit))
                panel.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=ORANGE, linewidth=2))
        panels.append(panel)
    caption = (
        "The shade is the mean intensity or probability over the faces labelled as the emotion; "
        "values of 0.10 or more are given in hundredths. Framed cells are the units of the "
        "emotion’s EMFACS prototype, which suggest an emotion but do not determine it. AU16 of "
        "disgust is not among the units."
    )
    alt = "Matrices of action units and emotions, predicted and labelled."
    return {"units_by_emotion": Figure(panels, alt, caption)}


def draw_learning_curves(runs: Sequence[Run]) -> Figures:
    """Draws loss, scores and learning rate over steps, a series per run; empty without a log."""
    panels = []
    for name, title in CURVES.items():
        logged = [(i, run) for i, run in enumerate(runs) if name in run.curves]
        if not logged:
            continue
        panel = create_panel(300, 250, title=title, xlabel="step")
        for i, run in logged:
            steps, values, deviations = run.curves[name]
            colour, marker = plotting.SERIES_STYLES[i % len(plotting.SERIES_STYLES)]
            marker = marker if not name.startswith("train.") or len(steps) == 1 else ""
            label = truncate(run.name)
            panel.plot(steps, values, marker=marker, markersize=5, color=colour, label=label)
            if deviations is not None:
                band = values - deviations, values + deviations
                panel.fill_between(steps, *band, color=colour, alpha=0.2, linewidth=0)
        panel.ticklabel_format(axis="x", style="plain")
        panel.locator_params(axis="x", nbins=4)
        if len(runs) > 1:
            panel.legend(loc="best")
        panels.append(panel)
    alt = "Curves over steps of training."
    caption = (
        "Training loss is the mean between two log entries. Evaluation loss and scores are on the "
        "evaluation split. Bands are standard deviations over the seeds of a study."
    )
    return {"learning_curves": Figure(panels, alt, caption)} if panels else {}
