"""Figures of the categorical model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from affect_jax.metrics import auc_scores, calibration
from affect_jax.metrics.categorical import confusion_matrix, normalize_rows, predict_top1
from affect_jax.report import score_names
from affect_jax.report.plotting import (
    BLUE,
    CELL_TEXT,
    MUTED,
    ORANGE,
    TEXT,
    FigureSpec,
    create_panels,
    draw_cells,
    label_rows,
    plot_dots,
)
from affect_jax.report.runs import Run

MAX_CURVE_POINTS = 120  # points per curve; more are not visible


def create_figures(run: Run, published: Mapping[str, float]) -> dict[str, FigureSpec]:
    """Creates the figures by section: `f1`, `confusion`, `precision_recall`, `reliability`.

    **Arguments:**

    - `published`: the paper's scores by name; empty if the run is not comparable.
    """
    labels, probabilities = _select_annotated(run)
    if not len(labels):
        return {}
    return {
        "f1": _f1_figure(run, published),
        "confusion": _confusion_figure(run, labels, probabilities),
        "precision_recall": _precision_recall_figure(run, labels, probabilities),
        "reliability": _reliability_figure(run, labels, probabilities),
    }


def _select_annotated(run: Run) -> tuple[np.ndarray, np.ndarray]:
    predictions = run.predictions
    if predictions.expression is None or predictions.probabilities is None:
        return np.zeros(0, np.int64), np.zeros((0, 0))
    annotated = predictions.expression >= 0
    return predictions.expression[annotated], predictions.probabilities[annotated]


def _f1_figure(run: Run, published: Mapping[str, float]) -> FigureSpec:
    classes = run.predictions.classes
    values, intervals = run.scores.values, run.scores.intervals

    def draw(wide: bool) -> Figure:
        height = 34 * len(classes) + 70
        figure, panels = create_panels(wide, 2, columns=(2, 1), height=height, sharex=True)
        for axes, rule in zip(panels, score_names.RULE_NAMES, strict=True):
            for series, skew in enumerate(score_names.SKEW_NAMES):
                names = [f"categorical.{rule}.{skew}.f1.{c}" for c in classes]
                positions = np.arange(len(classes)) + (-0.17, 0.17)[series]
                ends = [intervals[n] if n in intervals else None for n in names]
                numbers = [values[n] for n in names]
                label = score_names.SKEW_NAMES[skew]
                plot_dots(axes, positions, numbers, ends, series=series, label=label)
                published_f1 = [published[n] if n in published else np.nan for n in names]
                if not np.isnan(published_f1).all():
                    label = "paper" if series == 1 else None
                    axes.plot(published_f1, positions, "|", color=MUTED, markersize=11, label=label)
            axes.set_title(score_names.RULE_NAMES[rule])
            label_rows(axes, list(map(score_names.truncate, classes)))
        panels[0].set_xlim(-0.02, 1.02)
        panels[-1].set_xlabel("F1")
        if wide:
            panels[0].set_xlabel("F1")
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper right", ncols=3)
        return figure

    name = "categorical.top1.original.f1"
    defined = {c: values[f"{name}.{c}"] for c in classes if not np.isnan(values[f"{name}.{c}"])}
    best, worst = max(defined, key=defined.__getitem__), min(defined, key=defined.__getitem__)
    return FigureSpec(
        "f1_by_class",
        "F1 by class",
        f"Dot plot of F1 by class, top-1 and top-2. Top-1, original: highest {best} "
        f"{defined[best]:.3f}, lowest {worst} {defined[worst]:.3f}. The table has all values.",
        "Dots are scores, lines their 95 % intervals. Circle: original class distribution (Orig); "
        "diamond: equally frequent classes (Norm)."
        + (" Grey ticks: the paper’s AlexNet on AffectNet." if published else ""),
        draw,
    )


def _confusion_figure(run: Run, labels: np.ndarray, probabilities: np.ndarray) -> FigureSpec:
    classes = run.predictions.classes
    predicted = predict_top1(probabilities)
    counts = confusion_matrix(labels, predicted, len(classes))
    fractions = normalize_rows(counts)

    def draw(wide: bool) -> Figure:
        figure, panels = create_panels(wide, 2, columns=(2, 1), height=430 if wide else 375)
        size = (10 if wide else 8.5) * min(1, 8 / len(classes)) ** 0.5
        texts = (
            np.vectorize("{:,}".format)(counts),
            np.vectorize(score_names.format_fraction)(fractions),
        )
        for axes, title, text in zip(
            panels, ("Counts", "Fraction of each row"), texts, strict=True
        ):
            draw_cells(axes, np.nan_to_num(fractions), text, size)
            axes.set_title(title)
            names = list(map(score_names.truncate, classes))
            axes.set_xticks(np.arange(len(classes)) + 0.5, names, rotation=45, ha="right")
            axes.set_yticks(np.arange(len(classes)) + 0.5, names)
            axes.tick_params(labelcolor=TEXT, pad=1)
            axes.set_xlabel("predicted")
            axes.set_ylabel("label")
        return figure

    mistakes = counts - np.diag(np.diag(counts))
    row, column = np.unravel_index(mistakes.argmax(), mistakes.shape)
    worst = (
        f"Most frequent mistake: {classes[row]} predicted as {classes[column]}, "
        f"{mistakes.max():,} faces. "
        if mistakes.max()
        else "There is no mistake. "
    )
    return FigureSpec(
        "confusion",
        "Confusion matrix",
        "Two matrices of labels (rows) and top-1 predictions (columns): counts, and fractions of "
        f"each row. {worst}The table has all values.",
        "Rows are labels, columns are top-1 predictions. The shade is the fraction of the row, so "
        "the diagonal shows recall.",
        draw,
    )


def _precision_recall_figure(run: Run, labels: np.ndarray, probabilities: np.ndarray) -> FigureSpec:
    classes = run.predictions.classes
    values = run.scores.values
    areas = {c: values[f"categorical.top1.original.auc_pr.{c}"] for c in classes}
    curves = {
        c: auc_scores.compute_precision_recall_curve(probabilities[:, i], labels == i)
        for i, c in enumerate(classes)
        if (labels == i).any()
    }

    def draw(wide: bool) -> Figure:
        figure, panels = create_panels(
            wide, len(curves), columns=(4, 2), height=205 if wide else 165, sharex=True, sharey=True
        )
        for axes, (name, curve) in zip(panels, curves.items(), strict=True):
            # Points are evenly spaced in recall, because a rare class reaches full recall within
            # its first thresholds.
            points = np.searchsorted(curve.recall, np.linspace(0, 1, MAX_CURVE_POINTS))
            points = np.unique(np.minimum(points, len(curve.recall) - 1))
            recall = np.r_[0, curve.recall[points]]
            precision = np.r_[curve.precision[:1], curve.precision[points]]
            axes.fill_between(recall, precision, step="pre", color=BLUE, alpha=0.12, linewidth=0)
            axes.plot(recall, precision, drawstyle="steps-pre", color=BLUE)
            frequency = float(np.mean(labels == classes.index(name)))
            axes.axhline(frequency, color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
            axes.set_title(f"{score_names.truncate(name)}  {areas[name]:.3f}")
            axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        figure.supxlabel("recall", fontsize=11)
        figure.supylabel("precision", fontsize=11)
        return figure

    area_texts = ", ".join(f"{c} {areas[c]:.3f}" for c in curves)
    return FigureSpec(
        "precision_recall",
        "Precision and recall",
        f"One precision-recall curve per class. Areas under the curves (AUC-PR): {area_texts}.",
        "The number in each title is the area under the curve (AUC-PR). The dashed line is the "
        "class frequency, the precision of random predictions.",
        draw,
    )


def _reliability_figure(run: Run, labels: np.ndarray, probabilities: np.ndarray) -> FigureSpec:
    curve = calibration.compute_reliability_curve(labels, probabilities)
    correct = probabilities.argmax(axis=1) == labels
    confidence = probabilities.max(axis=1)
    error = run.scores.values["categorical.top1.original.calibration_error"]

    def draw(wide: bool) -> Figure:
        figure, (diagram, histogram) = create_panels(
            wide, 2, columns=(2, 1), height=390 if wide else 330
        )
        diagram.plot((0, 1), (0, 1), color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
        sizes = 14 + 130 * curve.count / curve.count.max()
        diagram.plot(curve.confidence, curve.accuracy, color=BLUE, linewidth=1)
        diagram.scatter(curve.confidence, curve.accuracy, sizes, color=BLUE, zorder=3)
        diagram.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
        diagram.set_aspect("equal")
        diagram.set_title(f"Reliability  ECE {error:.3f}")
        histogram.hist(
            [confidence[correct], confidence[~correct]],
            bins=curve.edges.tolist(),
            stacked=True,
            color=[BLUE, ORANGE],
            edgecolor="#ffffff",
            linewidth=0.6,
            label=["correct", "wrong"],
        )
        _hatch_second_bars(histogram)
        histogram.set(xlim=(0, 1), xlabel="confidence", ylabel="faces")
        histogram.set_title("Confidence")
        histogram.legend(loc="upper left")
        return figure

    gap = np.nansum(np.sign(curve.confidence - curve.accuracy) * curve.count)
    comparison = "more" if gap > 0 else "less"
    return FigureSpec(
        "reliability",
        "Reliability",
        f"Accuracy against confidence, and a histogram of confidence. Mean confidence "
        f"{confidence.mean():.3f}, accuracy {correct.mean():.3f}: the model is mostly {comparison} "
        f"confident than right. Expected calibration error {error:.3f}.",
        "Confidence is the probability of the most probable class. On the dashed line accuracy "
        "equals confidence; below it the model is overconfident. A dot’s size is its number of "
        "faces.",
        draw,
    )


def _hatch_second_bars(axes) -> None:
    """Hatches the second of stacked bars, so that they do not differ by colour alone."""
    for bar in axes.containers[1]:
        bar.set(hatch="////", edgecolor=CELL_TEXT, linewidth=0)
