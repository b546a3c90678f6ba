"""Figures of several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from affect_jax.metrics.base import Scores
from affect_jax.report import score_names
from affect_jax.report.plotting import MUTED, Drawing, dots, panels, rows
from affect_jax.report.runs import Run


def differences(runs: Sequence[Run], found: Sequence[Scores], names: Sequence[str]) -> Drawing:
    """Every later run minus the first.

    **Arguments:**

    - `found`: the differences of `runs[1:]`.
    - `names`: of the scores shown.
    """
    titles = [score_names.title(name) for name in names]

    def draw(wide: bool) -> Figure:
        height = (24 + 12 * len(found)) * len(names) + 90
        figure, (axes,) = panels(wide, 1, columns=(1, 1), height=height)
        for i, (run, scores) in enumerate(zip(runs[1:], found, strict=True)):
            _dots(axes, i, len(found), scores, names, score_names.short(run.name))
        axes.axvline(0, color=MUTED, linewidth=1.2)
        rows(axes, titles if wide else [title.replace(" · ", "\n") for title in titles])
        axes.set_xlabel(f"difference from {score_names.short(runs[0].name)}")
        figure.legend(loc="outside upper right", ncols=2)
        return figure

    shown = "; ".join(
        f"{run.name}: "
        + ", ".join(
            f"{t} {score_names.signed(s.values[n])}"
            for n, t in zip(names, titles, strict=True)
            if n in s.values
        )
        for run, s in zip(runs[1:], found, strict=True)
    )
    return Drawing(
        "differences",
        "Differences",
        f"Differences from {runs[0].name}. {shown}.",
        f"A dot is a run’s score minus that of {runs[0].name}; its line is the 95 % interval of "
        "the difference, by paired bootstrap over the same faces. A line that does not cross zero "
        "is a difference that the choice of test faces alone would seldom make. Of RMSE less is "
        "better.",
        draw,
    )


def by_class(runs: Sequence[Run], classes: Sequence[str]) -> Drawing:
    """F1 of each class and run, top-1."""

    def draw(wide: bool) -> Figure:
        height = (16 + 13 * len(runs)) * len(classes) + 80
        figure, both = panels(wide, 2, columns=(2, 1), height=height, sharex=True)
        for axes, skew in zip(both, score_names.SKEWS, strict=True):
            names = [f"categorical.top1.{skew}.f1.{c}" for c in classes]
            for i, run in enumerate(runs):
                label = score_names.short(run.name) if axes is both[0] else ""
                _dots(axes, i, len(runs), run.scores, names, label)
            axes.set_title(f"top-1, {score_names.SKEWS[skew]}")
            axes.set_xlabel("F1")
            rows(axes, list(map(score_names.short, classes)))
        both[0].set_xlim(-0.02, 1.02)
        figure.legend(loc="outside upper right", ncols=min(len(runs), 4 if wide else 2))
        return figure

    return Drawing(
        "f1_by_class_and_run",
        "F1 of each class",
        "Dot plot of F1 by class and run. The table has every number.",
        "Dots are scores, lines their 95 % intervals; runs are told apart by colour and shape.",
        draw,
    )


def _dots(
    axes: Axes, series: int, count: int, scores: Scores, names: Sequence[str], label: str
) -> None:
    places = np.arange(len(names)) + 0.6 * ((series + 0.5) / count - 0.5)
    values = [scores.values[n] if n in scores.values else np.nan for n in names]
    ends = [scores.intervals[n] if n in scores.intervals else None for n in names]
    dots(axes, places, values, ends, series=series, label=label)
