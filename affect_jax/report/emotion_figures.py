"""Figures of valence and arousal, and of action units, by emotion."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle

from affect_jax.core import plotting
from affect_jax.core.labels import AXES
from affect_jax.core.plotting import BLUE, GRID, MUTED, ORANGE, create_panel
from affect_jax.facs.action_units import PROTOTYPES
from affect_jax.report import score_names
from affect_jax.report.figures import DASHES, WIDTH, Figure, Figures
from affect_jax.report.runs import Run


def draw_dimensional(run: Run) -> Figures:
    """Draws agreement and the mean positions of emotions; empty without scores."""
    if "dimensional.valence.ccc" not in run.scores.values:
        return {}
    predictions = run.predictions
    assert predictions.valence_arousal is not None
    assert predictions.valence_arousal_predicted is not None
    annotated = np.isfinite(predictions.valence_arousal).all(axis=1)
    labels = predictions.valence_arousal[annotated]
    predicted = predictions.valence_arousal_predicted[annotated]
    drawn = {
        "agreement": Figure(
            _draw_agreement(run, labels, predicted),
            "Density plots of prediction against label, of valence and of arousal.",
            "Predictions against labels. Darker hexagons contain more faces. On the dashed line "
            "prediction equals label.",
        ),
    }
    if predictions.expression is not None:
        means = {
            name: (labels[rows].mean(axis=0), predicted[rows].mean(axis=0))
            for i, name in enumerate(predictions.classes)
            if (rows := predictions.expression[annotated] == i).any()
        }
        drawn["plane"] = Figure(
            [_draw_emotions(means)],
            "Positions of each emotion in the plane of valence and arousal.",
            "The mean label (ring) and mean prediction (dot) of each emotion on the circumplex.",
        )
    return drawn


def _draw_agreement(run: Run, labels: np.ndarray, predicted: np.ndarray) -> list[Axes]:
    panels = []
    for i, axis in enumerate(AXES):
        ccc, rmse = (run.scores.values[f"dimensional.{axis}.{kind}"] for kind in ("ccc", "rmse"))
        panel = _create_square(f"{axis}  CCC {ccc:.3f}, RMSE {rmse:.3f}", "label", "predicted")
        shades = {"bins": "log", "mincnt": 1, "cmap": plotting.COLORMAP, "linewidths": 0.1}
        panel.hexbin(labels[:, i], predicted[:, i], gridsize=26, extent=(-1, 1, -1, 1), **shades)
        panel.plot((-1, 1), (-1, 1), color=ORANGE, linestyle=DASHES, linewidth=1.2)
        panels.append(panel)
    return panels


def _draw_emotions(means: dict[str, tuple[np.ndarray, np.ndarray]]) -> Axes:
    """Draws the mean label and prediction of each emotion; the names are at the right edge."""
    panel = _create_plane("Emotions")
    panel.set_xlim(-1.05, 1.75)
    names = sorted(means, key=lambda name: -means[name][0][1])
    for name, height in zip(names, np.linspace(0.95, -0.95, len(names)), strict=True):
        label, predicted = means[name]
        panel.plot((label[0], 1.05), (label[1], height), color=MUTED, linewidth=0.5, zorder=1)
        panel.text(1.08, height, score_names.truncate(name, 12), va="center")
        panel.plot(*zip(label, predicted, strict=True), color=ORANGE, linewidth=1.2)
        panel.plot(*label, "o", color=BLUE, markersize=7, markerfacecolor="none")
        panel.plot(*predicted, "o", color=ORANGE, markersize=5)
    return panel


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


def draw_units(run: Run) -> Figures:
    """Draws the mean action units of the faces of each emotion; empty without units or labels."""
    predictions = run.predictions
    if predictions.expression is None or "action_units.mean.f1" not in run.scores.values:
        return {}
    assert predictions.action_units is not None and predictions.action_units_predicted is not None
    tables = {"Predicted": predictions.action_units_predicted, "Labels": predictions.action_units}
    groups = {
        name: rows
        for i, name in enumerate(predictions.classes)
        if (rows := predictions.expression == i).any()
    }
    if not groups:
        return {}
    panels = []
    for title, table in tables.items():
        annotated = np.ma.masked_invalid(table)
        cells = np.stack(
            [annotated[rows].mean(axis=0).filled(0) for rows in groups.values()], axis=1
        )
        panel = create_panel(WIDTH, 24 * len(predictions.units) + 110, title=title)
        plotting.draw_cells(
            panel,
            cells,
            np.where(cells >= 0.095, np.char.mod("%.0f", 100 * cells), ""),
            [f"AU{unit}" for unit in predictions.units],
            list(map(score_names.truncate, groups)),
        )
        for column, emotion in enumerate(groups):
            for unit in set(PROTOTYPES.get(emotion, ())) & set(predictions.units):
                corner = (column, predictions.units.index(unit))
                panel.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=ORANGE, linewidth=2))
        panels.append(panel)
    return {
        "units_by_emotion": Figure(
            panels,
            "Matrices of action units and emotions, predicted and labelled.",
            "The shade is the mean intensity or probability over the faces labelled as the "
            "emotion; values of 0.10 or more are given in hundredths. Framed cells are the units "
            "of the emotion’s EMFACS prototype, which suggest an emotion but do not determine it. "
            "AU16 of disgust is not among the units.",
        )
    }
