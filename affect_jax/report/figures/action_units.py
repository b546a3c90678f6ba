"""Figures of the action-unit model: mean action units by emotion."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from affect_jax.facs.action_units import PROTOTYPES
from affect_jax.report import score_names
from affect_jax.report.plotting import ORANGE, TEXT, FigureSpec, create_panels, draw_cells
from affect_jax.report.runs import Run


def create_figures(run: Run) -> list[FigureSpec]:
    """Creates the figure of mean units by emotion; empty without units or emotions."""
    predictions = run.predictions
    if predictions.action_units_predicted is None:
        return []
    groups, grouping = _group_by_emotion(run)
    if not groups:
        return []
    means = {
        "Predicted": np.stack(
            [predictions.action_units_predicted[rows].mean(0) for rows in groups.values()]
        )
    }
    if predictions.action_units is not None and np.isfinite(predictions.action_units).any():
        means["Labels"] = np.stack(
            [_mean_annotated(predictions.action_units[rows]) for rows in groups.values()]
        )
    emotions, units = list(groups), list(predictions.units)

    def draw(wide: bool) -> Figure:
        num_rows = len(emotions) if wide else len(units)
        height = 30 * num_rows + 65 if wide else 24 * num_rows + 110
        figure, axes = create_panels(wide, len(means), columns=(1, 1), height=height)
        for panel, (title, values) in zip(axes, means.items(), strict=True):
            _plot_matrix(panel, values, emotions, units, wide)
            panel.set_title(f"{title}, mean of the faces {grouping} each emotion")
        return figure

    strongest = "; ".join(
        f"{emotion}: " + ", ".join(f"AU{units[i]}" for i in np.argsort(-row)[:3])
        for emotion, row in zip(emotions, means["Predicted"], strict=True)
    )
    return [
        FigureSpec(
            "units_by_emotion",
            "Action units by emotion",
            "Matrix of emotions and action units. The three strongest predicted units: "
            f"{strongest}.",
            "The shade is the mean intensity or probability; values of 0.10 or more are given in "
            "hundredths. Framed cells are the units of the emotion’s EMFACS prototype, which "
            "suggest an emotion but do not determine it. AU16 of disgust is not among the units.",
            draw,
        )
    ]


def _group_by_emotion(run: Run) -> tuple[dict[str, np.ndarray], str]:
    """Groups rows by emotion, by label if there are labels, else by prediction.

    **Returns:** rows by emotion, and `labelled` or `predicted as`.
    """
    predictions = run.predictions
    if predictions.expression is not None and (predictions.expression >= 0).any():
        classes, grouping = predictions.expression, "labelled"
    elif predictions.probabilities is not None:
        classes, grouping = predictions.probabilities.argmax(axis=1), "predicted as"
    else:
        return {}, ""
    rows = {name: np.flatnonzero(classes == i) for i, name in enumerate(predictions.classes)}
    return {name: members for name, members in rows.items() if len(members)}, grouping


def _mean_annotated(values: np.ndarray) -> np.ndarray:
    """Computes the mean over annotated faces [A]; 0 for units without annotations."""
    annotated = np.isfinite(values)
    return np.where(annotated, values, 0).sum(axis=0) / np.maximum(annotated.sum(axis=0), 1)


def _plot_matrix(
    axes: Axes, values: np.ndarray, emotions: list[str], units: list[int], wide: bool
) -> None:
    """Plots emotions as rows and units as columns; on a phone, emotions as columns."""
    names = [f"AU{unit}" for unit in units]
    cell_values = values if wide else values.T
    emotion_names = list(map(score_names.truncate, emotions))
    column_names, row_names = (names, emotion_names) if wide else (emotion_names, names)
    texts = np.where(cell_values >= 0.095, np.vectorize("{:.0f}".format)(100 * cell_values), "")
    draw_cells(axes, np.clip(cell_values, 0, 1), texts, 9.5 if wide else 8.5)
    rotation = {} if wide else {"rotation": 60, "ha": "right"}
    axes.set_xticks(np.arange(len(column_names)) + 0.5, column_names, **rotation)
    axes.set_yticks(np.arange(len(row_names)) + 0.5, row_names)
    axes.tick_params(labelcolor=TEXT, pad=1)
    for row, emotion in enumerate(emotions):
        for unit in PROTOTYPES[emotion] if emotion in PROTOTYPES else ():
            if unit in units:
                column = units.index(unit)
                corner = (column, row) if wide else (row, column)
                frame = Rectangle(corner, 1, 1, fill=False, edgecolor=ORANGE, linewidth=2.2)
                axes.add_patch(frame)
