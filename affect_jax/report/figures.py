"""Figures of a report: expression, learning curves, and comparisons of runs.

A figure is a list of panels, drawn once. The page places the panels next to each other on a wide
screen and below each other on a phone.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from affect_jax.core import plotting
from affect_jax.core.plotting import BLUE, MUTED, ORANGE, create_panel
from affect_jax.metrics import auc_scores, calibration
from affect_jax.metrics.base import Scores
from affect_jax.metrics.categorical import confusion_matrix, normalize_rows, predict_top1
from affect_jax.report import score_names
from affect_jax.report.runs import Run

WIDTH = 420  # of a panel in CSS pixels: two fit next to each other
DASHES = (0, (4, 3))
EVALUATION_CURVES = (
    "categorical.top1.original.accuracy",
    "categorical.top1.original.f1.macro",
    "dimensional.mean.ccc",
    "action_units.mean.f1",
)
"""Evaluation scores shown over training, if a run logs them."""

Figures = dict[str, list[Axes]]
"""Panels by name of the figure, which is also its name in TensorBoard."""


def draw_expression(run: Run, published: Mapping[str, float]) -> Figures:
    """Draws the figures of the categorical model; empty without labelled predictions.

    **Arguments:**

    - `published`: the paper's scores by name; empty if the run is not comparable.
    """
    predictions = run.predictions
    if predictions.expression is None or predictions.probabilities is None:
        return {}
    annotated = predictions.expression >= 0
    if not annotated.any():
        return {}
    labels, probabilities = predictions.expression[annotated], predictions.probabilities[annotated]
    return {
        "f1_by_class": _draw_f1(run, published),
        "confusion": _draw_confusion(predictions.classes, labels, probabilities),
        "precision_recall": _draw_precision_recall(run, labels, probabilities),
        "reliability": _draw_reliability(run, labels, probabilities),
    }


def _draw_f1(run: Run, published: Mapping[str, float]) -> list[Axes]:
    panels = []
    for rule, title in score_names.RULE_NAMES.items():
        series = [
            (name, run.scores, f"categorical.{rule}.{skew}.f1.")
            for skew, name in score_names.SKEW_NAMES.items()
        ]
        panels.append(_draw_class_dots(title, series, run.predictions.classes, published))
    return panels


def _draw_class_dots(
    title: str,
    series: Sequence[tuple[str, Scores, str]],
    classes: Sequence[str],
    published: Mapping[str, float],
) -> Axes:
    """Draws the scores of each class.

    **Arguments:**

    - `series`: (label, scores, prefix of the score names) of each series.
    - `published`: the paper's scores by name, drawn as ticks.
    """
    height = (15 + 5 * len(series)) * len(classes) + 90
    panel = create_panel(WIDTH, height, title=title, xlabel="F1", xlim=(-0.02, 1.02))
    for i, (label, scores, prefix) in enumerate(series):
        names = [prefix + name for name in classes]
        positions = _draw_dots(panel, scores, names, i, len(series), label)
        ticks = [published.get(name, np.nan) for name in names]
        if not np.isnan(ticks).all():
            label = "paper" if i else None
            panel.plot(ticks, positions, "|", color=MUTED, markersize=11, label=label)
    _label_rows(panel, list(map(score_names.truncate, classes)))
    return panel


def _draw_dots(
    panel: Axes, scores: Scores, names: Sequence[str], series: int, count: int, label: str
) -> np.ndarray:
    """Draws a series of scores as dots along rows and their intervals as lines.

    **Arguments:**

    - `series`, `count`: number of this series, from 0, and of all series of the panel.

    **Returns:** the positions along the rows.
    """
    colour, marker = plotting.SERIES_STYLES[series % len(plotting.SERIES_STYLES)]
    positions = np.arange(len(names)) + 0.6 * ((series + 0.5) / count - 0.5)
    ends = np.array([scores.intervals.get(name, (np.nan, np.nan)) for name in names])
    panel.hlines(positions, ends[:, 0], ends[:, 1], color=colour, linewidth=1.6)
    values = [scores.values.get(name, np.nan) for name in names]
    panel.plot(values, positions, marker, color=colour, label=label)
    return positions


def _label_rows(panel: Axes, names: Sequence[str]) -> None:
    """Labels the rows of the y axis, the first on top, and adds the legend above the panel."""
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.spines["left"].set_visible(False)
    figure = panel.get_figure(root=True)
    assert figure is not None
    figure.legend(loc="outside upper right", ncols=3)


def _draw_confusion(
    classes: Sequence[str], labels: np.ndarray, probabilities: np.ndarray
) -> list[Axes]:
    counts = confusion_matrix(labels, predict_top1(probabilities), len(classes))
    fractions = normalize_rows(counts)
    texts = {
        "Counts": np.vectorize("{:,}".format)(counts),
        "Fraction of each row": np.vectorize(score_names.format_fraction)(fractions),
    }
    names = list(map(score_names.truncate, classes))
    panels = []
    for title, text in texts.items():
        panel = create_panel(WIDTH, 430, title=title, xlabel="predicted", ylabel="label")
        plotting.draw_cells(panel, fractions, text, names, names)
        panels.append(panel)
    return panels


def _draw_precision_recall(run: Run, labels: np.ndarray, probabilities: np.ndarray) -> list[Axes]:
    panels = []
    for i, name in enumerate(run.predictions.classes):
        positive = labels == i
        if not positive.any():
            continue
        curve = auc_scores.compute_precision_recall_curve(probabilities[:, i], positive)
        recall, precision = np.r_[0, curve[2]], np.r_[curve[1][:1], curve[1]]
        area = run.scores.values[f"categorical.top1.original.auc_pr.{name}"]
        title = f"{score_names.truncate(name)}  {area:.3f}"
        panel = create_panel(210, 195, title=title, xlabel="recall", ylabel="precision")
        panel.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0.5, 1))
        panel.fill_between(recall, precision, step="pre", color=BLUE, alpha=0.12, linewidth=0)
        panel.plot(recall, precision, drawstyle="steps-pre", color=BLUE)
        panel.axhline(float(positive.mean()), color=MUTED, linestyle=DASHES, linewidth=1)
        panels.append(panel)
    return panels


def _draw_reliability(run: Run, labels: np.ndarray, probabilities: np.ndarray) -> list[Axes]:
    mean_confidence, accuracy, count = calibration.compute_reliability_curve(labels, probabilities)
    error = run.scores.values["categorical.top1.original.calibration_error"]
    diagram = create_panel(WIDTH, 390, title=f"Reliability  ECE {error:.3f}", ylabel="accuracy")
    diagram.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", aspect="equal")
    diagram.plot((0, 1), (0, 1), color=MUTED, linestyle=DASHES, linewidth=1)
    diagram.plot(mean_confidence, accuracy, color=BLUE, linewidth=1)
    sizes = 14 + 130 * count / count.max()
    diagram.scatter(mean_confidence, accuracy, sizes, color=BLUE, zorder=3)
    confidence, correct = probabilities.max(axis=1), predict_top1(probabilities) == labels
    histogram = create_panel(WIDTH, 390, title="Confidence", ylabel="faces")
    histogram.set(xlim=(0, 1), xlabel="confidence")
    histogram.hist(
        [confidence[correct], confidence[~correct]],
        bins=calibration.NUM_BINS,
        range=(0, 1),
        stacked=True,
        color=[BLUE, ORANGE],
        hatch=["", "////"],  # bars do not differ by colour alone
        label=["correct", "wrong"],
    )
    histogram.legend(loc="best")
    return [diagram, histogram]


def draw_learning_curves(runs: Sequence[Run]) -> Figures:
    """Draws loss, scores and learning rate over steps, a series per run; empty without a log."""
    scores = {name: score_names.format_title(name) for name in EVALUATION_CURVES}
    titles = {"train.loss": "Training loss", **scores, "train.learning_rate": "Learning rate"}
    panels = []
    for name, title in titles.items():
        logged = [(i, run) for i, run in enumerate(runs) if name in run.curves]
        if not logged:
            continue
        panel = create_panel(300, 250, title=title, xlabel="step")
        for i, run in logged:
            steps, values = run.curves[name]
            colour, marker = plotting.SERIES_STYLES[i % len(plotting.SERIES_STYLES)]
            marker = marker if name in scores or len(steps) == 1 else ""
            label = score_names.truncate(run.name)
            panel.plot(steps, values, marker=marker, markersize=5, color=colour, label=label)
        panel.ticklabel_format(axis="x", style="plain")
        panel.locator_params(axis="x", nbins=4)
        if len(runs) > 1:
            panel.legend(loc="best")
        panels.append(panel)
    return {"learning_curves": panels} if panels else {}


def draw_differences(
    runs: Sequence[Run], changes: Sequence[Scores], names: Sequence[str]
) -> Figures:
    """Draws score differences from the first run, a panel per model; empty without names.

    **Arguments:**

    - `changes`: the differences of `runs[1:]` from the first run.
    - `names`: names of the displayed scores.
    """
    panels = []
    for model, group in itertools.groupby(names, score_names.lookup_model_name):
        members = list(group)
        height = (24 + 12 * len(changes)) * len(members) + 90
        label = f"difference from {score_names.truncate(runs[0].name)}"
        panel = create_panel(WIDTH, height, title=model, xlabel=label)
        for i, (run, scores) in enumerate(zip(runs[1:], changes, strict=True)):
            _draw_dots(panel, scores, members, i, len(changes), score_names.truncate(run.name))
        panel.axvline(0, color=MUTED, linewidth=1.2)
        panel.locator_params(axis="x", nbins=5)
        titles = [score_names.format_title(name).replace(" · ", "\n") for name in members]
        _label_rows(panel, titles)
        panels.append(panel)
    return {"differences": panels} if panels else {}


def draw_class_scores(runs: Sequence[Run]) -> Figures:
    """Draws top-1 F1 by class and run; empty without a categorical model."""
    if runs[0].predictions.probabilities is None:
        return {}
    panels = []
    for skew, name in score_names.SKEW_NAMES.items():
        prefix = f"categorical.top1.{skew}.f1."
        series = [(score_names.truncate(run.name), run.scores, prefix) for run in runs]
        panels.append(_draw_class_dots(f"top-1, {name}", series, runs[0].predictions.classes, {}))
    return {"f1_by_class_and_run": panels}
