"""Figures of the facial action model: which units the faces of each emotion have."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from affect_jax.facs.action_units import PROTOTYPES
from affect_jax.report import score_names
from affect_jax.report.plotting import INK, ORANGE, Drawing, cells, panels
from affect_jax.report.runs import Run


def drawings(run: Run) -> list[Drawing]:
    """Mean units of each emotion; nothing without units, or without emotions to sort faces by."""
    table = run.table
    if table.action_units_predicted is None:
        return []
    groups, by = _groups(run)
    if not groups:
        return []
    means = {
        "Predicted": np.stack([table.action_units_predicted[g].mean(0) for g in groups.values()])
    }
    if table.action_units is not None and np.isfinite(table.action_units).any():
        means["Labels"] = np.stack([_mean(table.action_units[g]) for g in groups.values()])
    emotions, units = list(groups), list(table.units)

    def draw(wide: bool) -> Figure:
        long = len(emotions) if wide else len(units)
        height = 30 * long + 65 if wide else 24 * long + 110
        figure, axes = panels(wide, len(means), columns=(1, 1), height=height)
        for panel, (title, values) in zip(axes, means.items(), strict=True):
            _matrix(panel, values, emotions, units, wide)
            panel.set_title(f"{title}, mean of the faces {by} each emotion")
        return figure

    strongest = "; ".join(
        f"{emotion}: " + ", ".join(f"AU{units[i]}" for i in np.argsort(-row)[:3])
        for emotion, row in zip(emotions, means["Predicted"], strict=True)
    )
    return [
        Drawing(
            "units_by_emotion",
            "Units of each emotion",
            "Matrix of emotions and action units. The three strongest predicted units: "
            f"{strongest}.",
            "The shade is the mean intensity or probability, in hundredths where it is 0.10 or "
            "more. Framed cells are the units of the emotion’s EMFACS prototype: they suggest an "
            "emotion, they do not name it. AU16 of disgust is not among the units.",
            draw,
        )
    ]


def _groups(run: Run) -> tuple[dict[str, np.ndarray], str]:
    """Emotion -> its faces' rows, by label or else by prediction; and which of the two it is."""
    table = run.table
    if table.expression is not None and (table.expression >= 0).any():
        given, by = table.expression, "labelled"
    elif table.probabilities is not None:
        given, by = table.probabilities.argmax(axis=1), "predicted as"
    else:
        return {}, ""
    rows = {name: np.flatnonzero(given == i) for i, name in enumerate(table.classes)}
    return {name: found for name, found in rows.items() if len(found)}, by


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over faces [A] of what is annotated; 0 where nothing is."""
    known = np.isfinite(values)
    return np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def _matrix(
    axes: Axes, values: np.ndarray, emotions: list[str], units: list[int], wide: bool
) -> None:
    """Emotions down and units across; on a phone the other way round."""
    names = [f"AU{unit}" for unit in units]
    shown = values if wide else values.T
    shown_names = list(map(score_names.short, emotions))
    across, down = (names, shown_names) if wide else (shown_names, names)
    texts = np.where(shown >= 0.095, np.vectorize("{:.0f}".format)(100 * shown), "")
    cells(axes, np.clip(shown, 0, 1), texts, 9.5 if wide else 8.5)
    turn = {} if wide else {"rotation": 60, "ha": "right"}
    axes.set_xticks(np.arange(len(across)) + 0.5, across, **turn)
    axes.set_yticks(np.arange(len(down)) + 0.5, down)
    axes.tick_params(labelcolor=INK, pad=1)
    for row, emotion in enumerate(emotions):
        for unit in PROTOTYPES[emotion] if emotion in PROTOTYPES else ():
            if unit in units:
                column = units.index(unit)
                corner = (column, row) if wide else (row, column)
                frame = Rectangle(corner, 1, 1, fill=False, edgecolor=ORANGE, linewidth=2.2)
                axes.add_patch(frame)
