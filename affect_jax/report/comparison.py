"""The comparison page: scores of several runs and their differences from the first run."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from affect_jax.core import plotting
from affect_jax.core.errors import UserError
from affect_jax.evaluate.scoring import writing_to
from affect_jax.metrics import protocol
from affect_jax.metrics.base import Scores
from affect_jax.report import figures, published_scores, run_summary, runs, score_names
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
    changes = [compute_difference(compared[0], run) for run in compared[1:]]
    with writing_to(path.parent):
        write_atomically(path, render_html(compared, changes))


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
    low, high = change.intervals.get(name, (0, 0))
    if low <= 0 <= high:
        return ""
    return "better" if (low > 0) != score_names.is_lower_better(name) else "worse"


def render_html(compared: Sequence[Run], changes: Sequence[Scores]) -> str:
    """Renders the page.

    **Arguments:**

    - `compared`: the runs.
    - `changes`: the differences of `compared[1:]` from the first run.
    """
    first, *rest = compared
    least_comparable = published_scores.select_least_comparable(compared)
    comparable, notice = run_summary.describe_comparability(least_comparable)
    names = [
        name for name in protocol.HEADLINES if any(name in run.scores.values for run in compared)
    ]
    panels = draw_figures(compared, changes, names)
    context: dict[str, Any] = {
        "heading": f"{len(compared)} runs on {run_summary.describe_data(least_comparable)}",
        "lead": f"{', '.join(run.name for run in rest)} against {first.name}, "
        f"scored on the same {len(first.predictions):,} faces.",
        "comparable": comparable,
        "data_notice": notice[:1] if comparable else notice,  # the page has no published numbers
        "runs": compared,
        "others": list(zip(rest, changes, strict=True)),
        "headers": [first.name, *(h for run in rest for h in (run.name, f"minus {first.name}"))],
        "settings": list_differing_settings(compared),
        "configs_known": all(run.config for run in compared),
        "names": names,
        "classes": first.predictions.classes,
        "f1_columns": {
            f"categorical.top1.{skew}.f1": f"top-1, {title}"
            for skew, title in score_names.SKEW_NAMES.items()
        },
        "figures": panels,
        "all_names": [
            name for name in first.scores.values if any(name in c.values for c in changes)
        ],
        "describe_change": describe_change,
    }
    sections = [
        ("runs", "Runs", True),
        ("scores", "Headline scores", True),
        ("classes", "Scores by class", "f1_by_class_and_run" in panels),
        ("training", "Learning curves", "learning_curves" in panels),
        ("all", "All differences", True),
    ]
    return render_template("comparison.html", context, sections)


def list_differing_settings(compared: Sequence[Run]) -> dict[str, list[str]]:
    """Lists the values of each run of settings that differ, of checkpoint and evaluation time."""
    settings = {
        "checkpoint": [str(run.metadata.get("checkpoint_step", "")) for run in compared],
        "evaluated": [str(run.metadata.get("time", "")) for run in compared],
    }
    settings = {key: values for key, values in settings.items() if any(values)}
    configs = [run.config for run in compared]
    for key in sorted(set().union(*configs)):
        values = [json.dumps(config[key]) if key in config else "" for config in configs]
        known = {value for value, config in zip(values, configs, strict=True) if config}
        if len(known) > 1:
            settings[key] = values
    return settings


def draw_figures(
    compared: Sequence[Run], changes: Sequence[Scores], names: Sequence[str]
) -> dict[str, list[np.ndarray]]:
    """Draws the panels of each figure for which the runs have data: uint8 [H, W, 3]."""
    shared = [name for name in names if any(name in change.values for change in changes)]
    with plotting.style():
        drawn = figures.draw_differences(compared, changes, shared)
        drawn |= figures.draw_class_scores(compared) | figures.draw_learning_curves(compared)
        return {name: list(map(plotting.render, panels)) for name, panels in drawn.items()}
