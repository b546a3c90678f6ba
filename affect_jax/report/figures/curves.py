"""Learning curves."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from affect_jax.report import score_names
from affect_jax.report.plotting import SERIES_STYLES, FigureSpec, create_panels
from affect_jax.report.runs import Curve, Run

EVALUATION_CURVES = (
    "categorical.top1.original.accuracy",
    "categorical.top1.original.f1.macro",
    "dimensional.mean.ccc",
    "action_units.mean.f1",
)
"""Evaluation scores shown over training, if a run logs them."""


def create_figures(run: Run) -> list[FigureSpec]:
    """Creates the figure of loss, scores and learning rate over steps; empty without a log."""
    training_curves = [n for n in ("train.loss", "train.learning_rate") if n in run.curves]
    scores = [n for n in EVALUATION_CURVES if n in run.curves]
    if "train.loss" not in training_curves:
        return []

    def draw(wide: bool) -> Figure:
        count = len(training_curves) + bool(scores)
        figure, axes = create_panels(wide, count, columns=(3, 1), height=280 if wide else 215)
        remaining = list(axes)
        _plot_curve(remaining.pop(0), run.curves["train.loss"], 0, "", "Training loss")
        if scores:
            panel = remaining.pop(0)
            for i, name in enumerate(scores):
                label = score_names.format_title(name).split(" · ")[0]
                _plot_curve(panel, run.curves[name], i, label, "Evaluation", marked=True)
            panel.set_ylim(bottom=min(0, panel.get_ylim()[0]))
            panel.legend(loc="best")
        if remaining:
            _plot_curve(remaining.pop(0), run.curves["train.learning_rate"], 0, "", "Learning rate")
        return figure

    loss = run.curves["train.loss"].values
    end_texts = "; ".join(
        f"{score_names.format_title(n)} ends at {c.values[-1]:.3f}, best {c.values.max():.3f}"
        for n, c in ((n, run.curves[n]) for n in scores)
    )
    return [
        FigureSpec(
            "learning_curves",
            "Learning curves",
            f"Curves over steps. Training loss from {loss[0]:.3f} to {loss[-1]:.3f}. {end_texts}.",
            "Training loss is the mean between two log entries. Scores are on the evaluation "
            "split.",
            draw,
        )
    ]


def create_comparison_figures(runs: Sequence[Run]) -> list[FigureSpec]:
    """Creates the figure of all runs' scores over training, one panel per score."""
    names = [n for n in EVALUATION_CURVES if sum(n in run.curves for run in runs) > 1]
    if not names:
        return []

    def draw(wide: bool) -> Figure:
        figure, axes = create_panels(wide, len(names), columns=(2, 1), height=300 if wide else 260)
        for panel, name in zip(axes, names, strict=True):
            for i, run in enumerate(runs):
                if name in run.curves:
                    label = score_names.truncate(run.name)
                    _plot_curve(
                        panel,
                        run.curves[name],
                        i,
                        label,
                        score_names.format_title(name),
                        marked=True,
                    )
            panel.legend(loc="best")
        return figure

    end_texts = "; ".join(
        f"{score_names.format_title(n)}: "
        + ", ".join(f"{r.name} {r.curves[n].values[-1]:.3f}" for r in runs if n in r.curves)
        for n in names
    )
    return [
        FigureSpec(
            "learning_curves",
            "Learning curves",
            f"Scores of the runs over steps. Final values: {end_texts}.",
            "Scores on the evaluation split, as logged during training.",
            draw,
        )
    ]


def _plot_curve(
    axes: Axes, curve: Curve, series: int, label: str, title: str, *, marked: bool = False
) -> None:
    colour, marker = SERIES_STYLES[series % len(SERIES_STYLES)]
    single_point = len(curve.steps) == 1  # a line through one point is invisible
    options = {"marker": marker, "markersize": 5} if marked or single_point else {}
    axes.plot(curve.steps, curve.values, color=colour, label=label, **options)
    axes.set(title=title, xlabel="step")
    axes.ticklabel_format(axis="x", style="plain")
    axes.locator_params(axis="x", nbins=4)
