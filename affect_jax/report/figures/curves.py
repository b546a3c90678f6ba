"""Learning curves."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from affect_jax.report import score_names
from affect_jax.report.plotting import SERIES, Drawing, panels
from affect_jax.report.runs import Curve, Run

EVALUATED = (
    "categorical.top1.original.accuracy",
    "categorical.top1.original.f1.macro",
    "dimensional.mean.ccc",
    "action_units.mean.f1",
)
"""What is followed over training, where a run logs it."""


def drawings(run: Run) -> list[Drawing]:
    """Loss, scores and learning rate over steps; nothing without a log."""
    wanted = [n for n in ("train.loss", "train.learning_rate") if n in run.curves]
    scores = [n for n in EVALUATED if n in run.curves]
    if "train.loss" not in wanted:
        return []

    def draw(wide: bool) -> Figure:
        count = len(wanted) + bool(scores)
        figure, axes = panels(wide, count, columns=(3, 1), height=280 if wide else 215)
        left = list(axes)
        _line(left.pop(0), run.curves["train.loss"], 0, "", "Training loss")
        if scores:
            panel = left.pop(0)
            for i, name in enumerate(scores):
                label = score_names.title(name).split(" · ")[0]
                _line(panel, run.curves[name], i, label, "Evaluation", marked=True)
            panel.set_ylim(bottom=min(0, panel.get_ylim()[0]))
            panel.legend(loc="best")
        if left:
            _line(left.pop(0), run.curves["train.learning_rate"], 0, "", "Learning rate")
        return figure

    loss = run.curves["train.loss"].values
    ends = "; ".join(
        f"{score_names.title(n)} ends at {c.values[-1]:.3f}, best {c.values.max():.3f}"
        for n, c in ((n, run.curves[n]) for n in scores)
    )
    return [
        Drawing(
            "learning_curves",
            "Learning curves",
            f"Curves over steps. Training loss from {loss[0]:.3f} to {loss[-1]:.3f}. {ends}.",
            "Training loss is the mean between two lines of the log; scores are of the evaluation "
            "split.",
            draw,
        )
    ]


def compared(runs: Sequence[Run]) -> list[Drawing]:
    """Every run's scores over training, one panel a score."""
    names = [n for n in EVALUATED if sum(n in run.curves for run in runs) > 1]
    if not names:
        return []

    def draw(wide: bool) -> Figure:
        figure, axes = panels(wide, len(names), columns=(2, 1), height=300 if wide else 260)
        for panel, name in zip(axes, names, strict=True):
            for i, run in enumerate(runs):
                if name in run.curves:
                    label = score_names.short(run.name)
                    _line(panel, run.curves[name], i, label, score_names.title(name), marked=True)
            panel.legend(loc="best")
        return figure

    ends = "; ".join(
        f"{score_names.title(n)}: "
        + ", ".join(f"{r.name} {r.curves[n].values[-1]:.3f}" for r in runs if n in r.curves)
        for n in names
    )
    return [
        Drawing(
            "learning_curves",
            "Learning curves",
            f"Scores of the runs over steps. At the end: {ends}.",
            "Scores of the evaluation split as training logged them.",
            draw,
        )
    ]


def _line(
    axes: Axes, curve: Curve, series: int, label: str, title: str, *, marked: bool = False
) -> None:
    colour, marker = SERIES[series % len(SERIES)]
    alone = len(curve.steps) == 1  # a line of one point is not seen
    options = {"marker": marker, "markersize": 5} if marked or alone else {}
    axes.plot(curve.steps, curve.values, color=colour, label=label, **options)
    axes.set(title=title, xlabel="step")
    axes.ticklabel_format(axis="x", style="plain")
    axes.locator_params(axis="x", nbins=4)
