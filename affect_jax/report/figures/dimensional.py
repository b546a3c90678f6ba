"""Figures of the dimensional model: agreement, and the plane of valence and arousal."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from affect_jax.core.labels import AXES
from affect_jax.report import score_names
from affect_jax.report.plotting import BLUE, INK, MUTED, ORANGE, RULE, SHADES, Drawing, panels
from affect_jax.report.runs import Run

ARROW_CELLS = 9  # along each axis of the plane
RING = (("alarmed", 90), ("excited", 50), ("content", -30), ("calm", -60), ("tired", -100))
RING += (("sad", 205), ("tense", 125))
"""Words of Russell's circumplex (1980) with their angles in degrees, roughly: for orientation."""

EMOTIONS = (
    " Emotions: the mean label (ring) and mean prediction (dot) of each on the circumplex; the "
    "grey words are Russell’s, for orientation."
)
LINE_HEIGHT = 0.15  # of a name on the circumplex, in units of its axes


def drawings(run: Run) -> list[Drawing]:
    """Agreement, densities, errors and the emotions' places."""
    table = run.table
    if table.valence_arousal is None or table.valence_arousal_predicted is None:
        return []
    found = np.isfinite(table.valence_arousal).all(axis=1)
    if not found.any():
        return []
    labels, predicted = table.valence_arousal[found], table.valence_arousal_predicted[found]
    expression = None if table.expression is None else table.expression[found]
    if expression is None or not (expression >= 0).any():
        expression = np.full(len(labels), -1)
    return [
        _agreement(run, labels, predicted),
        _density(labels, predicted),
        _plane(run.table.classes, labels, predicted, expression),
    ]


def _agreement(run: Run, labels: np.ndarray, predicted: np.ndarray) -> Drawing:
    values = run.scores.values

    def draw(wide: bool) -> Figure:
        figure, both = panels(wide, 2, columns=(2, 1), height=400 if wide else 330)
        for i, (axes, axis) in enumerate(zip(both, AXES, strict=True)):
            _hexagons(axes, labels[:, i], predicted[:, i])
            axes.plot((-1, 1), (-1, 1), color=ORANGE, linestyle=(0, (4, 3)), linewidth=1.2)
            axes.set(xlabel="label", ylabel="predicted")
            ccc, rmse = (values[f"dimensional.{axis}.{kind}"] for kind in ("ccc", "rmse"))
            axes.set_title(f"{axis}  CCC {ccc:.3f}, RMSE {rmse:.3f}")
        return figure

    shown = ", ".join(f"{axis} {values[f'dimensional.{axis}.ccc']:.3f}" for axis in AXES)
    return Drawing(
        "agreement",
        "Predicted against true",
        f"Two density plots of prediction against label. Concordance (CCC): {shown}.",
        "Darker hexagons hold more faces. On the dashed line prediction and label are the same.",
        draw,
    )


def _density(labels: np.ndarray, predicted: np.ndarray) -> Drawing:
    def draw(wide: bool) -> Figure:
        figure, both = panels(wide, 2, columns=(2, 1), height=400 if wide else 330)
        for axes, points, title in zip(
            both, (labels, predicted), ("Labels", "Predictions"), strict=True
        ):
            _hexagons(axes, points[:, 0], points[:, 1])
            _frame(axes, title)
        return figure

    spread = [points.std(axis=0) for points in (labels, predicted)]
    return Drawing(
        "density",
        "Where the faces are",
        "Two density plots of the plane of valence and arousal, labels and predictions. Standard "
        f"deviations of labels: valence {spread[0][0]:.2f}, arousal {spread[0][1]:.2f}; of "
        f"predictions {spread[1][0]:.2f} and {spread[1][1]:.2f}.",
        "A model that is unsure shrinks towards the middle: compare the two spreads.",
        draw,
    )


def _plane(
    classes: tuple[str, ...], labels: np.ndarray, predicted: np.ndarray, expression: np.ndarray
) -> Drawing:
    start, end, count = _mean_errors(labels, predicted)
    means = {
        name: (labels[expression == i].mean(axis=0), predicted[expression == i].mean(axis=0))
        for i, name in enumerate(classes)
        if (expression == i).any()
    }

    def draw(wide: bool) -> Figure:
        parts = 2 if means else 1
        figure, axes = panels(wide, parts, columns=(2, 1), height=430 if wide else 345)
        _frame(axes[0], "Errors")
        widths = 0.6 + 2.4 * np.sqrt(count / count.max())
        for a, b, width in zip(start, end, widths, strict=True):
            style = {"arrowstyle": "-|>", "color": BLUE, "linewidth": width, "mutation_scale": 9}
            style |= {"shrinkA": 0, "shrinkB": 0}
            axes[0].annotate("", b, a, arrowprops=style)
        if means:
            _circumplex(axes[1], means)
        return figure

    length = np.average(np.linalg.norm(end - start, axis=1), weights=count)
    where = "; ".join(
        f"{name} from {a[0]:+.2f}, {a[1]:+.2f} to {b[0]:+.2f}, {b[1]:+.2f}"
        for name, (a, b) in means.items()
    )
    places = f" Mean valence and arousal by emotion, label to prediction: {where}." if means else ""
    return Drawing(
        "plane",
        "Errors, and the emotions’ places" if means else "Errors",
        f"Arrows from labels to mean predictions over the plane, {length:.2f} long on average."
        f"{places}",
        "Arrows: where faces of about the same label are put on average; thicker means more faces."
        + (EMOTIONS if means else ""),
        draw,
    )


def _mean_errors(
    labels: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean label [K, 2], mean prediction [K, 2] and number of faces [K] of each used cell."""
    place = np.clip(((labels + 1) / 2 * ARROW_CELLS).astype(int), 0, ARROW_CELLS - 1)
    cell = place[:, 0] * ARROW_CELLS + place[:, 1]
    used, cell, count = np.unique(cell, return_inverse=True, return_counts=True)
    sums = [np.zeros((len(used), 2)), np.zeros((len(used), 2))]
    for total, points in zip(sums, (labels, predicted), strict=True):
        np.add.at(total, cell, points)
    return sums[0] / count[:, None], sums[1] / count[:, None], count


def _circumplex(axes: Axes, means: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    _frame(axes, "Emotions")
    axes.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4))
    for word, angle in RING:
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
        places = _apart([float(means[name][0][1]) for name in names], LINE_HEIGHT)
        for name, height in zip(names, places, strict=True):
            x, y = means[name][0]
            axes.plot((x, x + 0.12 * side), (y, height), color=MUTED, linewidth=0.7, zorder=1)
            where = "left" if side > 0 else "right"
            text = score_names.short(name)
            axes.text(x + 0.14 * side, height, text, ha=where, va="center", color=INK)


def _apart(heights: list[float], gap: float) -> list[float]:
    """The heights, those moved down that are less than `gap` below the next above."""
    found = list(heights)
    above = np.inf
    for i in sorted(range(len(heights)), key=lambda i: -heights[i]):
        above = found[i] = min(heights[i], above - gap)
    return found


def _frame(axes: Axes, title: str) -> None:
    """The plane: its unit circle and its two axes."""
    axes.grid(False)
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=RULE, linewidth=1))
    axes.axhline(0, color=RULE, linewidth=1, zorder=0)
    axes.axvline(0, color=RULE, linewidth=1, zorder=0)
    axes.set(xlabel="valence", ylabel="arousal", title=title)
    _square(axes)


def _hexagons(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    axes.grid(False)
    axes.set_facecolor("#ffffff")  # on a dark page too, where the rarest would be the brightest
    shades = {"bins": "log", "mincnt": 1, "cmap": SHADES, "linewidths": 0.1}
    axes.hexbin(x, y, gridsize=26, extent=(-1, 1, -1, 1), **shades)
    _square(axes)


def _square(axes: Axes) -> None:
    ticks = (-1, -0.5, 0, 0.5, 1)
    axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xticks=ticks, yticks=ticks)
    axes.set_aspect("equal")
