"""The comparison page: scores of several runs and their differences from the first run."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from affect_jax.core.errors import UserError
from affect_jax.metrics import protocol
from affect_jax.metrics.base import Scores
from affect_jax.report import published_scores, run_summary, runs, score_names
from affect_jax.report.figures import comparison, curves
from affect_jax.report.plotting import RenderedFigure, render_figure
from affect_jax.report.runs import Run
from affect_jax.report.templating import render_template, write_atomically


def read_runs(paths: Sequence[pathlib.Path]) -> list[Run]:
    """Reads runs and gives them unique names: folder names, or the paths if folder names repeat.

    **Raises:** `UserError` as `runs.read_run`, or if a path is repeated.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a run is listed twice; list each run once")
    loaded = [runs.read_run(path) for path in paths]
    names = [run.name for run in loaded]
    if len(set(names)) == len(names):
        return loaded
    return [dataclasses.replace(run, name=str(p)) for run, p in zip(loaded, paths, strict=True)]


def write_comparison(compared: Sequence[Run], path: pathlib.Path) -> None:
    """Writes the page.

    **Raises:** `UserError` if the runs have different faces or the page cannot be written.
    """
    text = render_html(compared, [compute_difference(compared[0], run) for run in compared[1:]])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def compute_difference(first: Run, second: Run) -> Scores:
    """Computes second minus first, with the first run's numbers of draws and bootstrap samples."""
    settings = {
        name: first.metadata[name] for name in ("draws", "bootstrap") if name in first.metadata
    }
    try:
        return protocol.compare(first.predictions, second.predictions, **settings)
    except UserError as error:
        raise UserError(f"{first.name} and {second.name}: {error}") from error


def describe_change(change: Scores, name: str) -> str:
    """Returns `better` or `worse` if the interval excludes 0, else an empty string."""
    if name not in change.intervals:
        return ""
    low, high = change.intervals[name]
    if low <= 0 <= high:
        return ""
    return "better" if (low > 0) != score_names.is_lower_better(name) else "worse"


def render_html(compared: Sequence[Run], changes: Sequence[Scores]) -> str:
    """Renders the page.

    **Arguments:**

    - `compared`: the runs.
    - `changes`: the differences of `compared[1:]` from the first run.
    """
    first = compared[0]
    reasons = [
        published_scores.why_not_comparable(run.metadata, run.predictions) for run in compared
    ]
    # The same faces may have been scored under different dataset names.
    least_comparable = next(
        (run for run, reason in zip(compared, reasons, strict=True) if reason), first
    )
    names = [
        name for name in protocol.HEADLINES if any(name in run.scores.values for run in compared)
    ]
    classes = first.predictions.classes if first.predictions.probabilities is not None else ()
    others = list(zip(compared[1:], changes, strict=True))
    context: dict[str, Any] = {
        "heading": f"{len(compared)} runs on {run_summary.describe_data(least_comparable)}",
        "lead": f"{', '.join(run.name for run in compared[1:])} against {first.name}, "
        f"scored on the same {len(first.predictions):,} faces.",
        "comparable": not any(reasons),
        "data_notice": _data_notice(least_comparable),
        "runs": compared,
        "others": others,
        "columns": [(first, None), *others],
        "settings": list_differing_settings(compared),
        "configs_known": all(run.config for run in compared),
        "names": names,
        "classes": classes,
        "f1_columns": [f"categorical.top1.{skew}.f1" for skew in score_names.SKEW_NAMES],
        "figures": _render_figures(compared, changes, names, classes),
        "all_names": [
            name for name in first.scores.values if any(name in c.values for c in changes)
        ],
        "describe_change": describe_change,
        "side": 0,
    }
    sections = [
        ("runs", "Runs", True),
        ("scores", "Headline scores", True),
        ("classes", "Scores by class", classes),
        ("training", "Learning curves", context["figures"]["training"]),
        ("all", "All differences", True),
    ]
    context["contents"] = [(id, title) for id, title, present in sections if present]
    return render_template("comparison.html", context)


def list_differing_settings(compared: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Lists (key, value of each run) for settings that differ, checkpoint and evaluation time."""
    rows = [("checkpoint", [_format_metadata(run, "checkpoint_step") for run in compared])]
    rows.append(("evaluated", [_format_metadata(run, "time") for run in compared]))
    keys = sorted({key for run in compared for key in run.config})
    for key in keys:
        values = [json.dumps(run.config[key]) if key in run.config else "" for run in compared]
        if len(set(values)) > 1:
            rows.append((key, values))
    return [(key, values) for key, values in rows if any(values)]


def _format_metadata(run: Run, key: str) -> str:
    return str(run.metadata[key]) if key in run.metadata else ""


def _data_notice(run: Run) -> list[str]:
    comparable, lines = run_summary.describe_comparability(run)
    return lines[:1] if comparable else lines  # the page has no published numbers


def _render_figures(
    compared: Sequence[Run], changes: Sequence[Scores], names: Sequence[str], classes: Sequence[str]
) -> dict[str, list[RenderedFigure]]:
    """Renders all figures by section. The multi-task score is left out, as its range is larger."""
    displayed = [
        name for name in names if name != "multitask" and any(name in c.values for c in changes)
    ]
    return {
        "differences": [
            render_figure(comparison.create_difference_figure(compared, changes, displayed))
        ]
        if displayed
        else [],
        "classes": [render_figure(comparison.create_class_figure(compared, classes))]
        if classes
        else [],
        "training": [render_figure(spec) for spec in curves.create_comparison_figures(compared)],
    }
