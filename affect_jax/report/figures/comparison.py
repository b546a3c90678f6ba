"""Figures that compare several runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from affect_jax.metrics.base import Scores
from affect_jax.report import score_names
from affect_jax.report.plotting import MUTED, FigureSpec, create_panels, label_rows, plot_dots
from affect_jax.report.runs import Run


def create_difference_figure(
    runs: Sequence[Run], changes: Sequence[Scores], names: Sequence[str]
) -> FigureSpec:
    """Creates the figure of score differences from the first run.

    **Arguments:**

    - `runs`: the runs.
    - `changes`: the differences of `runs[1:]` from the first run.
    - `names`: names of the displayed scores.
    """
    titles = [score_names.format_title(name) for name in names]

    def draw(wide: bool) -> Figure:
        height = (24 + 12 * len(changes)) * len(names) + 90
        figure, (axes,) = create_panels(wide, 1, columns=(1, 1), height=height)
        for i, (run, scores) in enumerate(zip(runs[1:], changes, strict=True)):
            _plot_run(axes, i, len(changes), scores, names, score_names.truncate(run.name))
        axes.axvline(0, color=MUTED, linewidth=1.2)
        label_rows(axes, titles if wide else [title.replace(" · ", "\n") for title in titles])
        axes.set_xlabel(f"difference from {score_names.truncate(runs[0].name)}")
        figure.legend(loc="outside upper right", ncols=2)
        return figure

    difference_texts = "; ".join(
        f"{run.name}: "
        + ", ".join(
            f"{t} {score_names.format_difference(s.values[n])}"
            for n, t in zip(names, titles, strict=True)
            if n in s.values
        )
        for run, s in zip(runs[1:], changes, strict=True)
    )
    return FigureSpec(
        "differences",
        "Differences",
        f"Differences from {runs[0].name}. {difference_texts}.",
        f"A dot is a run’s score minus that of {runs[0].name}. Its line is the 95 % interval of "
        "the difference, by paired bootstrap over the same faces. If a line does not cross zero, "
        "the choice of test faces alone rarely explains the difference. Lower RMSE is better.",
        draw,
    )


def create_class_figure(runs: Sequence[Run], classes: Sequence[str]) -> FigureSpec:
    """Creates the figure of top-1 F1 by class and run."""

    def draw(wide: bool) -> Figure:
        height = (16 + 13 * len(runs)) * len(classes) + 80
        figure, panels = create_panels(wide, 2, columns=(2, 1), height=height, sharex=True)
        for axes, skew in zip(panels, score_names.SKEW_NAMES, strict=True):
            names = [f"categorical.top1.{skew}.f1.{c}" for c in classes]
            for i, run in enumerate(runs):
                label = score_names.truncate(run.name) if axes is panels[0] else ""
                _plot_run(axes, i, len(runs), run.scores, names, label)
            axes.set_title(f"top-1, {score_names.SKEW_NAMES[skew]}")
            axes.set_xlabel("F1")
            label_rows(axes, list(map(score_names.truncate, classes)))
        panels[0].set_xlim(-0.02, 1.02)
        figure.legend(loc="outside upper right", ncols=min(len(runs), 4 if wide else 2))
        return figure

    return FigureSpec(
        "f1_by_class_and_run",
        "F1 by class",
        "Dot plot of F1 by class and run. The table has all values.",
        "Dots are scores, lines their 95 % intervals. Runs differ by colour and marker shape.",
        draw,
    )


def _plot_run(
    axes: Axes, series: int, count: int, scores: Scores, names: Sequence[str], label: str
) -> None:
    positions = np.arange(len(names)) + 0.6 * ((series + 0.5) / count - 0.5)
    values = [scores.values[n] if n in scores.values else np.nan for n in names]
    intervals = [scores.intervals[n] if n in scores.intervals else None for n in names]
    plot_dots(axes, positions, values, intervals, series=series, label=label)
