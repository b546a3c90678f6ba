"""The comparison page: scores of runs and studies, and their differences from the first."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from affect_jax.core import plotting
from affect_jax.core.errors import UserError
from affect_jax.core.paths import write_atomically, writing_to
from affect_jax.metrics import protocol, system_scores
from affect_jax.metrics.base import Scores
from affect_jax.report import figures, published_scores, runs, score_names
from affect_jax.report.runs import Run
from affect_jax.report.templating import MACROS, render_page


def read_runs(paths: Sequence[pathlib.Path]) -> list[Run]:
    """Reads runs with the faces that all have, and gives them unique names: the names of folders
    and files, or the paths if names repeat.

    **Raises:** `UserError` as `runs.read_run` and `runs.match_faces`.
    """
    loaded = [runs.read_run(path) for path in paths]
    if len({run.name for run in loaded}) < len(loaded):
        pairs = zip(loaded, paths, strict=True)
        loaded = [dataclasses.replace(run, name=str(path)) for run, path in pairs]
    return runs.match_faces(loaded)


def write_comparison(
    compared: Sequence[Run], path: pathlib.Path, changes: Sequence[Scores] | None = None
) -> None:
    """Writes the page; see `render_html`.

    **Raises:** `UserError` if the runs have different faces or the page cannot be written.
    """
    page = render_html(compared, changes)
    with writing_to(path.parent), write_atomically(path) as partial:
        partial.write_text(page, encoding="utf-8")


def compute_differences(compared: Sequence[Run]) -> list[Scores]:
    """Computes the difference of each run but the first from the first."""
    return [compute_difference(compared[0], run) for run in compared[1:]]


def compute_difference(first: Run, second: Run) -> Scores:
    """Computes second minus first, with the first run's numbers of draws and bootstrap samples."""
    try:
        tables = [run.members or [run.predictions] for run in (first, second)]
        return system_scores.compare(*tables, **first.settings())
    except UserError as error:
        raise UserError(f"{first.name} and {second.name}: {error}") from error


def list_headlines(compared: Sequence[Run]) -> list[str]:
    """Lists the names of the headline scores that any of the runs has."""
    names = (*protocol.HEADLINES, *protocol.SOFT_HEADLINES)
    return [name for name in names if any(name in run.scores.values for run in compared)]


def render_html(compared: Sequence[Run], changes: Sequence[Scores] | None = None) -> str:
    """Renders the page: the scores of each run, and the differences from the first.

    **Arguments:** `changes`: see `compute_differences`, which computes them by default.
    """
    first, *rest = compared
    changes = compute_differences(compared) if changes is None else changes
    with plotting.style():
        drawn = figures.render(figures.draw_learning_curves(compared))
    names, all_names = list_headlines(compared), list(first.scores.values)
    all_scores = _list_scores(compared, changes, all_names)
    settings = {
        key: [str(run.metadata.get(key, "")) for run in compared]
        for key in ("checkpoint_step", "time")
    } | runs.compare_configs(compared)
    rows = [(key, *map(MACROS.code, values)) for key, values in settings.items()]
    headers = ("key", *(run.name for run in compared))
    table = MACROS.table("Differing settings of the runs", headers, rows, len(headers))
    comparable, notice = published_scores.describe_comparability(first)
    systems = f"{len(compared)} systems" if rest else "One system"
    return render_page(
        [
            ("runs", "Runs", [table]),
            ("scores", "Headline scores", [_list_scores(compared, changes, names)]),
            ("datasets", "Trained on, scored on", _list_evaluations(compared)),
            ("training", "Learning curves", list(map(MACROS.figure, drawn.values()))),
            ("all", "All differences", [MACROS.details(f"{len(all_names):,} scores", all_scores)]),
        ],
        kind="comparison of systems",
        heading=f"{systems} on {published_scores.describe_data(first)}",
        lead=f"{', '.join(run.name for run in rest)}{' against ' if rest else ''}{first.name}, "
        f"scored on the same {len(first.predictions):,} faces.",
        comparable=comparable,
        notice=notice[:1] if comparable else notice,  # the page has no published numbers
    )


def _list_evaluations(compared: Sequence[Run]) -> list[str]:
    """Lists the scores of each run on each dataset, if there is more than one."""
    scored_on = sorted(set().union(*(run.evaluations for run in compared)))
    rows = []
    for run in compared:
        for name in protocol.MULTITASK_PARTS:
            values = [run.evaluations.get(data, {}).get(name) for data in scored_on]
            cells = ["" if v is None else score_names.format_score(v) for v in values]
            trained_on = run.config["data.name"] if run.config else ""
            row = (run.name, trained_on, score_names.format_title(name), *cells)
            rows += [row] if any(cells) else []
    caption = "All evaluations of the runs, each with the classes that run and dataset share"
    headers = ("run", "trained on", "score", *scored_on)
    return [MACROS.table(caption, headers, rows, 3)] if len(scored_on) > 1 else []


def _list_scores(compared: Sequence[Run], changes: Sequence[Scores], names: Sequence[str]) -> str:
    first, *rest = compared
    headers = ["score", first.name]
    rows = [[score_names.format_title(name), _format_score(first, name)] for name in names]
    for run, change in zip(rest, changes, strict=True):
        headers += [run.name, "difference"]
        for name, row in zip(names, rows, strict=True):
            row += [_format_score(run, name), _format_change(change, name)]
    caption = (
        f"Scores with 95 % intervals, and differences from {first.name} with paired bootstrap "
        "intervals and p-values (McNemar or permutation, Holm-corrected)"
    )
    if any(run.members for run in compared):
        caption += (
            ". A study has means ± standard deviations over its seeds; its intervals and p-values "
            "are those of the bootstrap over seeds and faces"
        )
    return MACROS.table(caption, headers, rows)


def _format_score(run: Run, name: str) -> str:
    return MACROS.cell(run.scores, name, deviations=run.scores.deviations if run.members else {})


def _format_change(change: Scores, name: str) -> str:
    if name not in change.values:
        return ""
    number = score_names.format_difference(change.values[name])
    ends = map(score_names.format_difference, change.intervals.get(name, ()))
    p_value = score_names.format_p_value(change, name)
    return MACROS.with_range(number, f"{' to '.join(ends)} {p_value}".strip())
