"""Figures of the categorical model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from affect_jax.metrics import calibration, confusion, ranking
from affect_jax.report import score_names
from affect_jax.report.plotting import (
    BLUE,
    CELL_INK,
    INK,
    MUTED,
    ORANGE,
    Drawing,
    cells,
    dots,
    panels,
    rows,
)
from affect_jax.report.runs import Run

POINTS = 120  # of a curve; more are not seen


def drawings(run: Run, published: Mapping[str, float]) -> dict[str, Drawing]:
    """By section: `f1`, `confusion`, `precision_recall`, `reliability`.

    **Arguments:**

    - `published`: the paper's numbers by name, where they may stand beside the run's.
    """
    labels, probabilities = _annotated(run)
    if not len(labels):
        return {}
    return {
        "f1": _f1(run, published),
        "confusion": _confusion(run, labels, probabilities),
        "precision_recall": _precision_recall(run, labels, probabilities),
        "reliability": _reliability(run, labels, probabilities),
    }


def _annotated(run: Run) -> tuple[np.ndarray, np.ndarray]:
    table = run.table
    if table.expression is None or table.probabilities is None:
        return np.zeros(0, np.int64), np.zeros((0, 0))
    found = table.expression >= 0
    return table.expression[found], table.probabilities[found]


def _f1(run: Run, published: Mapping[str, float]) -> Drawing:
    classes = run.table.classes
    values, intervals = run.scores.values, run.scores.intervals

    def draw(wide: bool) -> Figure:
        height = 34 * len(classes) + 70
        figure, both = panels(wide, 2, columns=(2, 1), height=height, sharex=True)
        for axes, rule in zip(both, score_names.RULES, strict=True):
            for series, skew in enumerate(score_names.SKEWS):
                names = [f"categorical.{rule}.{skew}.f1.{c}" for c in classes]
                places = np.arange(len(classes)) + (-0.17, 0.17)[series]
                ends = [intervals[n] if n in intervals else None for n in names]
                numbers = [values[n] for n in names]
                label = score_names.SKEWS[skew]
                dots(axes, places, numbers, ends, series=series, label=label)
                shown = [published[n] if n in published else np.nan for n in names]
                if not np.isnan(shown).all():
                    label = "paper" if series == 1 else None
                    axes.plot(shown, places, "|", color=MUTED, markersize=11, label=label)
            axes.set_title(score_names.RULES[rule])
            rows(axes, list(map(score_names.short, classes)))
        both[0].set_xlim(-0.02, 1.02)
        both[-1].set_xlabel("F1")
        if wide:
            both[0].set_xlabel("F1")
        handles = both[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper right", ncols=3)
        return figure

    name = "categorical.top1.original.f1"
    defined = {c: values[f"{name}.{c}"] for c in classes if not np.isnan(values[f"{name}.{c}"])}
    best, worst = max(defined, key=defined.__getitem__), min(defined, key=defined.__getitem__)
    return Drawing(
        "f1_by_class",
        "F1 of each class",
        f"Dot plot of F1 by class, top-1 and top-2. Top-1, original: highest {best} "
        f"{defined[best]:.3f}, lowest {worst} {defined[worst]:.3f}. The table has every number.",
        "Dots are scores, lines their 95 % intervals. Circle: faces as they are (Orig); diamond: "
        "classes made equally frequent (Norm)."
        + (" Grey ticks: the paper’s AlexNet on AffectNet." if published else ""),
        draw,
    )


def _confusion(run: Run, labels: np.ndarray, probabilities: np.ndarray) -> Drawing:
    classes = run.table.classes
    counts = confusion.matrix(labels, confusion.top1(probabilities), len(classes))
    shares = confusion.shares(counts)

    def draw(wide: bool) -> Figure:
        figure, both = panels(wide, 2, columns=(2, 1), height=430 if wide else 375)
        size = (10 if wide else 8.5) * min(1, 8 / len(classes)) ** 0.5
        texts = (np.vectorize("{:,}".format)(counts), np.vectorize(score_names.share)(shares))
        for axes, title, text in zip(both, ("Counts", "Shares of each row"), texts, strict=True):
            cells(axes, np.nan_to_num(shares), text, size)
            axes.set_title(title)
            names = list(map(score_names.short, classes))
            axes.set_xticks(np.arange(len(classes)) + 0.5, names, rotation=45, ha="right")
            axes.set_yticks(np.arange(len(classes)) + 0.5, names)
            axes.tick_params(labelcolor=INK, pad=1)
            axes.set_xlabel("predicted")
            axes.set_ylabel("label")
        return figure

    wrong = counts - np.diag(np.diag(counts))
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    worst = (
        f"The most frequent mistake: {classes[row]} taken for {classes[column]}, "
        f"{wrong.max():,} faces. "
        if wrong.max()
        else "There is no mistake. "
    )
    return Drawing(
        "confusion",
        "Confusion matrix",
        "Two matrices of labels (rows) and top-1 predictions (columns), counts and shares of each "
        f"row. {worst}The table has every number.",
        "Rows are labels, columns top-1 predictions; the shade is the share of the row, so the "
        "diagonal shows recall.",
        draw,
    )


def _precision_recall(run: Run, labels: np.ndarray, probabilities: np.ndarray) -> Drawing:
    classes = run.table.classes
    values = run.scores.values
    areas = {c: values[f"categorical.top1.original.auc_pr.{c}"] for c in classes}
    curves = {
        c: ranking.precision_recall(probabilities[:, i], labels == i)
        for i, c in enumerate(classes)
        if (labels == i).any()
    }

    def draw(wide: bool) -> Figure:
        figure, all_axes = panels(
            wide, len(curves), columns=(4, 2), height=205 if wide else 165, sharex=True, sharey=True
        )
        for axes, (name, curve) in zip(all_axes, curves.items(), strict=True):
            # Evenly over recall: a rare class gains all of it in the first of its thresholds.
            chosen = np.searchsorted(curve.recall, np.linspace(0, 1, POINTS))
            chosen = np.unique(np.minimum(chosen, len(curve.recall) - 1))
            recall = np.r_[0, curve.recall[chosen]]
            precision = np.r_[curve.precision[:1], curve.precision[chosen]]
            axes.fill_between(recall, precision, step="pre", color=BLUE, alpha=0.12, linewidth=0)
            axes.plot(recall, precision, drawstyle="steps-pre", color=BLUE)
            share = float(np.mean(labels == classes.index(name)))
            axes.axhline(share, color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
            axes.set_title(f"{score_names.short(name)}  {areas[name]:.3f}")
            axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        figure.supxlabel("recall", fontsize=11)
        figure.supylabel("precision", fontsize=11)
        return figure

    shown = ", ".join(f"{c} {areas[c]:.3f}" for c in curves)
    return Drawing(
        "precision_recall",
        "Precision and recall",
        f"One precision-recall curve a class. Areas under them (AUC-PR): {shown}.",
        "The number in each title is the area under the curve (AUC-PR); the dashed line, the "
        "class’s share of the faces, is what chance gives.",
        draw,
    )


def _reliability(run: Run, labels: np.ndarray, probabilities: np.ndarray) -> Drawing:
    curve = calibration.reliability(labels, probabilities)
    right = probabilities.argmax(axis=1) == labels
    confidence = probabilities.max(axis=1)
    error = run.scores.values["categorical.top1.original.calibration_error"]

    def draw(wide: bool) -> Figure:
        figure, (left, lower) = panels(wide, 2, columns=(2, 1), height=390 if wide else 330)
        left.plot((0, 1), (0, 1), color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
        sizes = 14 + 130 * curve.count / curve.count.max()
        left.plot(curve.confidence, curve.accuracy, color=BLUE, linewidth=1)
        left.scatter(curve.confidence, curve.accuracy, sizes, color=BLUE, zorder=3)
        left.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
        left.set_aspect("equal")
        left.set_title(f"Reliability  ECE {error:.3f}")
        lower.hist(
            [confidence[right], confidence[~right]],
            bins=curve.edges.tolist(),
            stacked=True,
            color=[BLUE, ORANGE],
            edgecolor="#ffffff",
            linewidth=0.6,
            label=["right", "wrong"],
        )
        _hatch(lower)
        lower.set(xlim=(0, 1), xlabel="confidence", ylabel="faces")
        lower.set_title("How sure it is")
        lower.legend(loc="upper left")
        return figure

    gap = np.nansum(np.sign(curve.confidence - curve.accuracy) * curve.count)
    kind = "more" if gap > 0 else "less"
    return Drawing(
        "reliability",
        "Reliability",
        f"Accuracy against confidence, and a histogram of confidence. Mean confidence "
        f"{confidence.mean():.3f}, accuracy {right.mean():.3f}: the model is mostly {kind} "
        f"confident than right. Expected calibration error {error:.3f}.",
        "Confidence is the probability of the most probable class. On the dashed line a model is "
        "right as often as it says; below it, it is too sure. A dot’s size is its number of faces.",
        draw,
    )


def _hatch(axes) -> None:
    """Stripes on the second of stacked bars: colour alone says nothing to some."""
    for bar in axes.containers[1]:
        bar.set(hatch="////", edgecolor=CELL_INK, linewidth=0)
