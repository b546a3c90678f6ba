"""Figures of the dimensional model: agreement and the valence-arousal plane."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from affect_jax.core.labels import AXES
from affect_jax.report import score_names
from affect_jax.report.plotting import (
    BLUE,
    COLORMAP,
    GRID,
    MUTED,
    ORANGE,
    TEXT,
    FigureSpec,
    create_panels,
)
from affect_jax.report.runs import Run

ARROW_CELLS = 9  # along each axis of the plane
CIRCUMPLEX_WORDS = (
    ("alarmed", 90),
    ("excited", 50),
    ("content", -30),
    ("calm", -60),
    ("tired", -100),
)
CIRCUMPLEX_WORDS += (("sad", 205), ("tense", 125))
"""Words of Russell's circumplex (1980) with approximate angles in degrees, for orientation."""

CIRCUMPLEX_NOTE = (
    " Emotions: the mean label (ring) and mean prediction (dot) of each emotion on the circumplex. "
    "Grey words are Russell’s, for orientation."
)
LINE_HEIGHT = 0.15  # height of a name on the circumplex, in units of its axes


def create_figures(run: Run) -> list[FigureSpec]:
    """Creates the figures of agreement, densities, errors and mean positions of emotions."""
    predictions = run.predictions
    if predictions.valence_arousal is None or predictions.valence_arousal_predicted is None:
        return []
    annotated = np.isfinite(predictions.valence_arousal).all(axis=1)
    if not annotated.any():
        return []
    labels, predicted = (
        predictions.valence_arousal[annotated],
        predictions.valence_arousal_predicted[annotated],
    )
    expression = None if predictions.expression is None else predictions.expression[annotated]
    if expression is None or not (expression >= 0).any():
        expression = np.full(len(labels), -1)
    return [
        _agreement_figure(run, labels, predicted),
        _density_figure(labels, predicted),
        _error_figure(run.predictions.classes, labels, predicted, expression),
    ]


def _agreement_figure(run: Run, labels: np.ndarray, predicted: np.ndarray) -> FigureSpec:
    values = run.scores.values

    def draw(wide: bool) -> Figure:
        figure, panels = create_panels(wide, 2, columns=(2, 1), height=400 if wide else 330)
        for i, (axes, axis) in enumerate(zip(panels, AXES, strict=True)):
            _plot_hexbin(axes, labels[:, i], predicted[:, i])
            axes.plot((-1, 1), (-1, 1), color=ORANGE, linestyle=(0, (4, 3)), linewidth=1.2)
            axes.set(xlabel="label", ylabel="predicted")
            ccc, rmse = (values[f"dimensional.{axis}.{kind}"] for kind in ("ccc", "rmse"))
            axes.set_title(f"{axis}  CCC {ccc:.3f}, RMSE {rmse:.3f}")
        return figure

    ccc_texts = ", ".join(f"{axis} {values[f'dimensional.{axis}.ccc']:.3f}" for axis in AXES)
    return FigureSpec(
        "agreement",
        "Predictions against labels",
        f"Two density plots of prediction against label. Concordance (CCC): {ccc_texts}.",
        "Darker hexagons contain more faces. On the dashed line prediction equals label.",
        draw,
    )


def _density_figure(labels: np.ndarray, predicted: np.ndarray) -> FigureSpec:
    def draw(wide: bool) -> Figure:
        figure, panels = create_panels(wide, 2, columns=(2, 1), height=400 if wide else 330)
        for axes, points, title in zip(
            panels, (labels, predicted), ("Labels", "Predictions"), strict=True
        ):
            _plot_hexbin(axes, points[:, 0], points[:, 1])
            _draw_plane(axes, title)
        return figure

    spread = [points.std(axis=0) for points in (labels, predicted)]
    return FigureSpec(
        "density",
        "Distribution of faces",
        "Two density plots of the plane of valence and arousal, labels and predictions. Standard "
        f"deviations of labels: valence {spread[0][0]:.2f}, arousal {spread[0][1]:.2f}; of "
        f"predictions {spread[1][0]:.2f} and {spread[1][1]:.2f}.",
        "Predictions of an uncertain model shrink towards the centre; compare the two plots.",
        draw,
    )


def _error_figure(
    classes: tuple[str, ...], labels: np.ndarray, predicted: np.ndarray, expression: np.ndarray
) -> FigureSpec:
    start, end, count = _compute_mean_errors(labels, predicted)
    means = {
        name: (labels[expression == i].mean(axis=0), predicted[expression == i].mean(axis=0))
        for i, name in enumerate(classes)
        if (expression == i).any()
    }

    def draw(wide: bool) -> Figure:
        num_panels = 2 if means else 1
        figure, axes = create_panels(wide, num_panels, columns=(2, 1), height=430 if wide else 345)
        _draw_plane(axes[0], "Errors")
        widths = 0.6 + 2.4 * np.sqrt(count / count.max())
        for a, b, width in zip(start, end, widths, strict=True):
            style = {"arrowstyle": "-|>", "color": BLUE, "linewidth": width, "mutation_scale": 9}
            style |= {"shrinkA": 0, "shrinkB": 0}
            axes[0].annotate("", b, a, arrowprops=style)
        if means:
            _plot_circumplex(axes[1], means)
        return figure

    length = np.average(np.linalg.norm(end - start, axis=1), weights=count)
    mean_texts = "; ".join(
        f"{name} from {a[0]:+.2f}, {a[1]:+.2f} to {b[0]:+.2f}, {b[1]:+.2f}"
        for name, (a, b) in means.items()
    )
    mean_note = (
        f" Mean valence and arousal by emotion, label to prediction: {mean_texts}." if means else ""
    )
    return FigureSpec(
        "plane",
        "Errors and mean positions of emotions" if means else "Errors",
        f"Arrows from labels to mean predictions over the plane, {length:.2f} long on average."
        f"{mean_note}",
        "Arrows: from the mean label to the mean prediction of faces with similar labels; thicker "
        "arrows have more faces." + (CIRCUMPLEX_NOTE if means else ""),
        draw,
    )


def _compute_mean_errors(
    labels: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns mean label [K, 2], mean prediction [K, 2] and number of faces [K] per used cell."""
    cell_index = np.clip(((labels + 1) / 2 * ARROW_CELLS).astype(int), 0, ARROW_CELLS - 1)
    cell = cell_index[:, 0] * ARROW_CELLS + cell_index[:, 1]
    used, cell, count = np.unique(cell, return_inverse=True, return_counts=True)
    sums = [np.zeros((len(used), 2)), np.zeros((len(used), 2))]
    for total, points in zip(sums, (labels, predicted), strict=True):
        np.add.at(total, cell, points)
    return sums[0] / count[:, None], sums[1] / count[:, None], count


def _plot_circumplex(axes: Axes, means: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    _draw_plane(axes, "Emotions")
    axes.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4))
    for word, angle in CIRCUMPLEX_WORDS:
        x, y = 1.2 * np.cos(np.radians(angle)), 1.2 * np.sin(np.radians(angle))
        axes.text(x, y, word, ha="center", va="center", color=MUTED, fontsize=10)
    for label, predicted in means.values():
        axes.plot(*zip(label, predicted, strict=True), color=ORANGE, linewidth=1.2)
        ring = {"markersize": 7, "markerfacecolor": "none", "markeredgewidth": 1.6}
        axes.plot(*label, "o", color=BLUE, **ring)
        axes.plot(*predicted, "o", markersize=5, color=ORANGE)
    middle = np.mean([label[0] for label, _ in means.values()])
    for side in (-1, 1):
        names = [name for name, (label, _) in means.items() if (label[0] >= middle) == (side > 0)]
        heights = _separate_heights([float(means[name][0][1]) for name in names], LINE_HEIGHT)
        for name, height in zip(names, heights, strict=True):
            x, y = means[name][0]
            axes.plot((x, x + 0.12 * side), (y, height), color=MUTED, linewidth=0.7, zorder=1)
            alignment = "left" if side > 0 else "right"
            text = score_names.truncate(name)
            axes.text(x + 0.14 * side, height, text, ha=alignment, va="center", color=TEXT)


def _separate_heights(heights: list[float], gap: float) -> list[float]:
    """Moves each height down until it is at least `gap` below the next higher one."""
    separated = list(heights)
    above = np.inf
    for i in sorted(range(len(heights)), key=lambda i: -heights[i]):
        above = separated[i] = min(heights[i], above - gap)
    return separated


def _draw_plane(axes: Axes, title: str) -> None:
    """Draws the plane with its unit circle and its two axes."""
    axes.grid(False)
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=GRID, linewidth=1))
    axes.axhline(0, color=GRID, linewidth=1, zorder=0)
    axes.axvline(0, color=GRID, linewidth=1, zorder=0)
    axes.set(xlabel="valence", ylabel="arousal", title=title)
    _set_square_limits(axes)


def _plot_hexbin(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    axes.grid(False)
    axes.set_facecolor("#ffffff")  # in dark mode too, else the lowest counts would be the brightest
    shades = {"bins": "log", "mincnt": 1, "cmap": COLORMAP, "linewidths": 0.1}
    axes.hexbin(x, y, gridsize=26, extent=(-1, 1, -1, 1), **shades)
    _set_square_limits(axes)


def _set_square_limits(axes: Axes) -> None:
    ticks = (-1, -0.5, 0, 0.5, 1)
    axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xticks=ticks, yticks=ticks)
    axes.set_aspect("equal")
