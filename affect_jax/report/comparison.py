"""The page of several runs: their scores, and each one's differences from the first."""

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
from affect_jax.report.plotting import Picture, picture
from affect_jax.report.runs import Run
from affect_jax.report.templating import render, write_text


def read(paths: Sequence[pathlib.Path]) -> list[Run]:
    """Runs under different names: their folders', or the paths as given where those are equal.

    **Raises:** `UserError` as `runs.read`, and where a path is given twice.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a run is named twice; compare different ones")
    found = [runs.read(path) for path in paths]
    names = [run.name for run in found]
    if len(set(names)) == len(names):
        return found
    return [dataclasses.replace(run, name=str(p)) for run, p in zip(found, paths, strict=True)]


def write(found: Sequence[Run], path: pathlib.Path) -> None:
    """Writes the page.

    **Raises:** `UserError` where runs were not scored on the same faces, or nothing can be written.
    """
    text = html(found, [difference(found[0], run) for run in found[1:]])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def difference(first: Run, second: Run) -> Scores:
    """Second minus first, with as many draws and bootstrap samples as the first was scored with."""
    wanted = {name: first.about[name] for name in ("draws", "bootstrap") if name in first.about}
    try:
        return protocol.compare(first.table, second.table, **wanted)
    except UserError as error:
        raise UserError(f"{first.name} and {second.name}: {error}") from error


def verdict(change: Scores, name: str) -> str:
    """`better` or `worse` where the interval leaves out 0; else nothing."""
    if name not in change.intervals:
        return ""
    low, high = change.intervals[name]
    if low <= 0 <= high:
        return ""
    return "better" if (low > 0) != score_names.smaller_is_better(name) else "worse"


def html(found: Sequence[Run], changes: Sequence[Scores]) -> str:
    """The page.

    **Arguments:**

    - `changes`: of `found[1:]`.
    """
    first = found[0]
    reasons = [published_scores.why_not_comparable(run.about, run.table) for run in found]
    # The same faces may have been scored under different names of their data set.
    telling = next((run for run, reason in zip(found, reasons, strict=True) if reason), first)
    names = [name for name in protocol.HEADLINES if any(name in run.scores.values for run in found)]
    classes = first.table.classes if first.table.probabilities is not None else ()
    others = list(zip(found[1:], changes, strict=True))
    context: dict[str, Any] = {
        "heading": f"{len(found)} runs on {run_summary.data_name(telling)}",
        "lead": f"{', '.join(run.name for run in found[1:])} against {first.name}, "
        f"scored on the same {len(first.table):,} faces.",
        "comparable": not any(reasons),
        "origin": _origin(telling),
        "runs": found,
        "others": others,
        "columns": [(first, None), *others],
        "settings": settings(found),
        "configs_known": all(run.config for run in found),
        "names": names,
        "classes": classes,
        "f1_columns": [f"categorical.top1.{skew}.f1" for skew in score_names.SKEWS],
        "pictures": _pictures(found, changes, names, classes),
        "every": [name for name in first.scores.values if any(name in c.values for c in changes)],
        "verdict": verdict,
        "side": 0,
    }
    sections = [
        ("runs", "The runs", True),
        ("scores", "Headline scores", True),
        ("classes", "Each class", classes),
        ("training", "Learning curves", context["pictures"]["training"]),
        ("all", "Every difference", True),
    ]
    context["contents"] = [(id, title) for id, title, present in sections if present]
    return render("comparison.html", context)


def settings(found: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """(key, each run's value) of what differs between the runs, and what they were scored on."""
    rows = [("checkpoint", [_about(run, "checkpoint_step") for run in found])]
    rows.append(("evaluated", [_about(run, "time") for run in found]))
    keys = sorted({key for run in found for key in run.config})
    for key in keys:
        values = [json.dumps(run.config[key]) if key in run.config else "" for run in found]
        if len(set(values)) > 1:
            rows.append((key, values))
    return [(key, values) for key, values in rows if any(values)]


def _about(run: Run, key: str) -> str:
    return str(run.about[key]) if key in run.about else ""


def _origin(telling: Run) -> list[str]:
    comparable, lines = run_summary.origin(telling)
    return lines[:1] if comparable else lines  # no published number stands on this page


def _pictures(
    found: Sequence[Run], changes: Sequence[Scores], names: Sequence[str], classes: Sequence[str]
) -> dict[str, list[Picture]]:
    """Differences of scores between 0 and 1 share one axis; the multi-task score would not fit."""
    shown = [n for n in names if n != "multitask" and any(n in c.values for c in changes)]
    return {
        "differences": [picture(comparison.differences(found, changes, shown))] if shown else [],
        "classes": [picture(comparison.by_class(found, classes))] if classes else [],
        "training": [picture(one) for one in curves.compared(found)],
    }
