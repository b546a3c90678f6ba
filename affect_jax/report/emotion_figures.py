"""Figures of valence and arousal, and of action units, by emotion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import Circle, Rectangle

from affect_jax.core import plotting
from affect_jax.core.labels import AXES
from affect_jax.core.plotting import BLUE, GRID, MUTED, ORANGE, create_panel
from affect_jax.facs.action_units import PROTOTYPES
from affect_jax.report import score_names
from affect_jax.report.figures import DASHES, WIDTH, Figures
from affect_jax.report.runs import Run

ARROW_CELLS = 9  # along each axis of the plane
LINE_HEIGHT = 0.15  # height of a name on the circumplex, in units of its axes
CIRCUMPLEX_WORDS = {
    "alarmed": 90,
    "excited": 50,
    "content": -30,
    "calm": -60,
    "tired": -100,
    "sad": 205,
    "tense": 125,
}
"""Words of Russell's circumplex (1980) with approximate angles in degrees, for orientation."""


def draw_dimensional(run: Run) -> Figures:
    """Draws agreement, densities, errors and mean positions of emotions; empty without labels."""
    predictions = run.predictions
    if predictions.valence_arousal is None or predictions.valence_arousal_predicted is None:
        return {}
    annotated = np.isfinite(predictions.valence_arousal).all(axis=1)
    if not annotated.any():
        return {}
    labels = predictions.valence_arousal[annotated]
    predicted = predictions.valence_arousal_predicted[annotated]
    planes = [_draw_arrows(labels, predicted)]
    if predictions.expression is not None:
        expression = predictions.expression[annotated]
        members = [expression == i for i in range(len(predictions.classes))]
        means = {
            name: (labels[rows].mean(axis=0), predicted[rows].mean(axis=0))
            for name, rows in zip(predictions.classes, members, strict=True)
            if rows.any()
        }
        planes += [_draw_circumplex(means)] if means else []
    densities = []
    for title, points in (("Labels", labels), ("Predictions", predicted)):
        densities.append(_create_plane(title))
        _draw_density(densities[-1], *points.T)
    agreement = _draw_agreement(run, labels, predicted)
    return {"agreement": agreement, "density": densities, "plane": planes}


def _draw_agreement(run: Run, labels: np.ndarray, predicted: np.ndarray) -> list[Axes]:
    panels = []
    for i, axis in enumerate(AXES):
        ccc, rmse = (run.scores.values[f"dimensional.{axis}.{kind}"] for kind in ("ccc", "rmse"))
        panel = _create_square(f"{axis}  CCC {ccc:.3f}, RMSE {rmse:.3f}", "label", "predicted")
        _draw_density(panel, labels[:, i], predicted[:, i])
        panel.plot((-1, 1), (-1, 1), color=ORANGE, linestyle=DASHES, linewidth=1.2)
        panels.append(panel)
    return panels


def _draw_arrows(labels: np.ndarray, predicted: np.ndarray) -> Axes:
    start, end, count = _compute_mean_errors(labels, predicted)
    panel = _create_plane("Errors")
    scale = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.006}
    # The lower limit makes the arrow of a single face visible.
    shades = {"cmap": plotting.COLORMAP, "norm": LogNorm(0.3, count.max())}
    panel.quiver(*start.T, *(end - start).T, count, **scale, **shades)
    return panel


def _compute_mean_errors(
    labels: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns mean label [K, 2], mean prediction [K, 2] and number of faces [K] per used cell."""
    cells = np.clip(((labels + 1) / 2 * ARROW_CELLS).astype(int), 0, ARROW_CELLS - 1)
    _, cell, count = np.unique(cells @ (ARROW_CELLS, 1), return_inverse=True, return_counts=True)
    columns = (*labels.T, *predicted.T)
    means = np.stack([np.bincount(cell, column) / count for column in columns], axis=1)
    return means[:, :2], means[:, 2:], count


def _draw_circumplex(means: dict[str, tuple[np.ndarray, np.ndarray]]) -> Axes:
    panel = _create_plane("Emotions")
    panel.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4))
    for word, angle in CIRCUMPLEX_WORDS.items():
        x, y = 1.2 * np.cos(np.radians(angle)), 1.2 * np.sin(np.radians(angle))
        panel.text(x, y, word, ha="center", va="center", color=MUTED, fontsize=10)
    for label, predicted in means.values():
        panel.plot(*zip(label, predicted, strict=True), color=ORANGE, linewidth=1.2)
        panel.plot(*label, "o", color=BLUE, markersize=7, markerfacecolor="none")
        panel.plot(*predicted, "o", color=ORANGE, markersize=5)
    middle = np.mean([label[0] for label, _ in means.values()])
    for side, alignment in ((-1, "right"), (1, "left")):
        names = [name for name, (label, _) in means.items() if (label[0] >= middle) == (side > 0)]
        heights = _separate_heights([float(means[name][0][1]) for name in names], LINE_HEIGHT)
        for name, height in zip(names, heights, strict=True):
            x, y = means[name][0]
            panel.plot((x, x + 0.12 * side), (y, height), color=MUTED, linewidth=0.7, zorder=1)
            text = score_names.truncate(name)
            panel.text(x + 0.14 * side, height, text, ha=alignment, va="center")
    return panel


def _separate_heights(heights: Sequence[float], gap: float) -> list[float]:
    """Moves each height down until it is at least `gap` below the next higher one."""
    separated = list(heights)
    above = np.inf
    for i in sorted(range(len(heights)), key=lambda i: -heights[i]):
        above = separated[i] = min(heights[i], above - gap)
    return separated


def _create_plane(title: str) -> Axes:
    """Creates a panel of the plane with its unit circle and its two axes."""
    panel = _create_square(title, "valence", "arousal")
    panel.add_patch(Circle((0, 0), 1, fill=False, edgecolor=GRID, linewidth=1))
    panel.axhline(0, color=GRID, linewidth=1, zorder=0)
    panel.axvline(0, color=GRID, linewidth=1, zorder=0)
    return panel


def _create_square(title: str, xlabel: str, ylabel: str) -> Axes:
    """Creates a panel with both axes from -1 to 1."""
    panel = create_panel(WIDTH, 430, title=title, xlabel=xlabel, ylabel=ylabel, aspect="equal")
    ticks = (-1, -0.5, 0, 0.5, 1)
    panel.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xticks=ticks, yticks=ticks)
    panel.grid(False)
    return panel


def _draw_density(panel: Axes, x: np.ndarray, y: np.ndarray) -> None:
    shades = {"bins": "log", "mincnt": 1, "cmap": plotting.COLORMAP, "linewidths": 0.1}
    panel.hexbin(x, y, gridsize=26, extent=(-1, 1, -1, 1), **shades)


def draw_units(run: Run) -> Figures:
    """Draws the mean action units of the faces of each emotion; empty without units or labels."""
    predictions = run.predictions
    if predictions.action_units_predicted is None or predictions.expression is None:
        return {}
    tables = {"Predicted": predictions.action_units_predicted}
    if predictions.action_units is not None and np.isfinite(predictions.action_units).any():
        tables["Labels"] = predictions.action_units
    members = [predictions.expression == i for i in range(len(predictions.classes))]
    groups = {c: rows for c, rows in zip(predictions.classes, members, strict=True) if rows.any()}
    if not groups:
        return {}
    units = [f"AU{unit}" for unit in predictions.units]
    emotions = list(map(score_names.truncate, groups))
    panels = []
    for title, table in tables.items():
        annotated = np.ma.masked_invalid(table)
        means = [annotated[rows].mean(axis=0).filled(0) for rows in groups.values()]
        cells = np.stack(means, axis=1)
        texts = np.where(cells >= 0.095, np.char.mod("%.0f", 100 * cells), "")
        panel = create_panel(WIDTH, 24 * len(units) + 110, title=title)
        plotting.draw_cells(panel, cells, texts, units, emotions)
        for column, emotion in enumerate(groups):
            for unit in set(PROTOTYPES.get(emotion, ())) & set(predictions.units):
                corner = (column, predictions.units.index(unit))
                panel.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=ORANGE, linewidth=2))
        panels.append(panel)
    return {"units_by_emotion": panels}
