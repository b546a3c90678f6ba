"""The comparison page: scores of runs and studies, and their differences from the first."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from affect_jax.core import plotting
from affect_jax.core.errors import UserError
from affect_jax.core.paths import write_atomically, writing_to
from affect_jax.metrics import protocol, study_scores
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


def write_comparison(compared: Sequence[Run], path: pathlib.Path) -> None:
    """Writes the page.

    **Raises:** `UserError` if the runs have different faces or the page cannot be written.
    """
    changes = [compute_difference(compared[0], run) for run in compared[1:]]
    with writing_to(path.parent), write_atomically(path) as partial:
        partial.write_text(render_html(compared, changes), encoding="utf-8")


def compute_difference(first: Run, second: Run) -> Scores:
    """Computes second minus first, with the first run's numbers of draws and bootstrap samples."""
    settings = {
        name: first.metadata[name] for name in ("draws", "bootstrap") if name in first.metadata
    }
    try:
        if first.members or second.members:
            tables = [run.members or [run.predictions] for run in (first, second)]
            return study_scores.compare_studies(*tables, **settings)
        return protocol.compare(first.predictions, second.predictions, **settings)
    except UserError as error:
        raise UserError(f"{first.name} and {second.name}: {error}") from error


def render_html(compared: Sequence[Run], changes: Sequence[Scores]) -> str:
    """Renders the page.

    **Arguments:**

    - `compared`: the runs.
    - `changes`: the differences of `compared[1:]` from the first run.
    """
    first, *rest = compared
    headline_names = (*protocol.HEADLINES, *protocol.SOFT_HEADLINES)
    names = [n for n in headline_names if any(n in run.scores.values for run in compared)]
    with plotting.style():
        drawn = figures.render(figures.draw_learning_curves(compared))
    headlines = _list_scores(compared, changes, names)
    all_scores = _list_scores(compared, changes, [*first.scores.values])
    details = MACROS.details(f"{len(first.scores.values):,} scores", all_scores)
    comparable, notice = published_scores.describe_comparability(first)
    return render_page(
        [
            ("runs", "Runs", [_list_settings(compared)]),
            ("scores", "Headline scores", [headlines]),
            ("training", "Learning curves", list(map(MACROS.figure, drawn.values()))),
            ("all", "All differences", [details]),
        ],
        kind="comparison of systems",
        heading=f"{len(compared)} systems on {published_scores.describe_data(first)}",
        lead=f"{', '.join(run.name for run in rest)}{' against ' if rest else ''}{first.name}, "
        f"scored on the same {len(first.predictions):,} faces.",
        comparable=comparable,
        notice=notice[:1] if comparable else notice,  # the page has no published numbers
    )


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
    cell = MACROS.cell(run.scores, name)
    if not run.members or name not in run.scores.deviations:
        return cell
    return MACROS.with_range(cell, f"± {score_names.format_score(run.scores.deviations[name])}")


def _format_change(change: Scores, name: str) -> str:
    if name not in change.values:
        return ""
    number = score_names.format_difference(change.values[name])
    ends = map(score_names.format_difference, change.intervals.get(name, ()))
    p_value = score_names.format_p_value(change, name)
    return MACROS.with_range(number, f"{' to '.join(ends)} {p_value}".strip())


def _list_settings(compared: Sequence[Run]) -> str:
    settings = list_differing_settings(compared)
    rows = [(key, *map(MACROS.code, values)) for key, values in settings.items()]
    headers = ("key", *(run.name for run in compared))
    return MACROS.table("Differing settings of the runs", headers, rows, len(headers))


def list_differing_settings(compared: Sequence[Run]) -> dict[str, list[str]]:
    """Lists the values of each run of settings that differ, and of checkpoint and time."""
    settings = {
        key: [str(run.metadata.get(key, "")) for run in compared]
        for key in ("checkpoint_step", "time")
    }
    return settings | runs.compare_configs(compared)
