"""Command that writes tables of systems in Markdown, LaTeX (booktabs) and CSV.

    python -m affect_jax.report.tables --out tables/ ours=runs/weighted theirs=predictions.csv

A system is a run, a study, the folder of an evaluation or a file of predictions. All are scored on
the faces that they have in common. `scores` has the headline scores and the differences from the
first system, with intervals and p-values; `protocols` the scores by every protocol. If names
are imbalanced, down-sampling, up-sampling or weighted-loss, `table7` has F1 by class and strategy.
On AffectNet the paper's scores are below the system's.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tabulate

from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.core.errors import UserError
from affect_jax.core.paths import write_atomically, writing_to
from affect_jax.core.spreadsheets import escape_formula
from affect_jax.metrics import protocol
from affect_jax.metrics.base import Scores
from affect_jax.report import comparison, published_scores, runs, score_names
from affect_jax.report.runs import Run
from affect_jax.report.templating import escape_markdown

CSV_HEADER = "data,source,column,row,score,value,low,high,mean over,of,p,deviation"
LATEX = str.maketrans(tabulate.LATEX_ESCAPE_RULES | {"−": "$-$", "[": "{[}", "*": "{*}"})
"""Escapes also a true minus sign, and what may not follow a line break."""

INTERVAL, P_VALUE = "95 % interval", "p, Holm-corrected"
DEVIATION = "standard deviation over seeds"


class Column(NamedTuple):
    """A column of scores of a system, or of their differences from another system.

    The name of a score is `prefix` and the name of the row. `published` has published scores by
    name.
    """

    header: str
    run: Run
    scores: Scores
    prefix: str = ""
    published: Mapping[str, float] = {}
    format: Callable[[float], str] = score_names.format_score


class Table(NamedTuple):
    """A table of scores: title, score name of each row by row header, columns."""

    title: str
    rows: Mapping[str, str]
    columns: Sequence[Column]


def create_tables(
    systems: Mapping[str, Run], changes: Sequence[Scores] | None = None
) -> dict[str, Table]:
    """Creates the tables, by file name.

    **Arguments:** `changes`: see `comparison.compute_differences`, which computes them by default.

    **Raises:** `UserError` if the systems have no face in common or different labels.
    """
    named = [dataclasses.replace(run, name=name) for name, run in systems.items()]
    first, *rest = matched = runs.match_faces(named)
    by_name, tables = {run.name: run for run in matched}, {}
    strategies = [by_name[name] for name in published_scores.STRATEGIES if name in by_name]
    if any("categorical.top1.original.f1.macro" in run.scores.values for run in strategies):
        rows = {name: f"f1.{name}" for name in (*first.predictions.classes, "macro")}
        columns = [
            Column(f"{run.name} {header}", run, run.scores, f"categorical.{kind}.", published)
            for run in strategies
            for published in [published_scores.select_published(run, run.name)]
            for header, kind in published_scores.TABLE7_COLUMNS.items()
        ]
        tables["table7"] = Table(_format_title("F1 by class", first), rows, columns)
    names = comparison.list_headlines(matched)
    rows = {score_names.format_title(name): name for name in names}
    columns = [
        Column(run.name, run, run.scores, published=published_scores.select_published(run))
        for run in matched
    ]
    changes = comparison.compute_differences(matched) if changes is None else changes
    for run, change in zip(rest, changes, strict=True):
        header = f"{run.name} − {first.name}"
        columns.append(Column(header, run, change, format=score_names.format_difference))
    tables["scores"] = Table(_format_title("Headline scores", first), rows, columns)
    rows, columns = {}, []
    for run in matched:
        scores = Scores()
        for title, row in run.protocols.items():
            part = Scores(row.get("scores", {}), row.get("intervals", {}))
            scores.update(part, prefix=title)
            for key in part.values:
                header = f"{title} ({row['source']}; {row['faces']:,} faces): {key}"
                rows[header] = f"{title}.{key}"
        columns.append(Column(run.name, run, scores))
    tables["protocols"] = Table(_format_title("Scores by protocol", first), rows, columns)
    return {name: table for name, table in tables.items() if table.rows}


def _format_title(content: str, run: Run) -> str:
    """Returns the title of a table with the dataset of its runs."""
    split = f", {run.metadata['split']} split" if "split" in run.metadata else ""
    is_comparable = not published_scores.why_not_comparable(run)
    notice = "" if is_comparable else "; NOT AffectNet, do not compare with scores published on it"
    data = f"{published_scores.describe_data(run)}{split}, {len(run.predictions):,} faces{notice}"
    return f"{content}. Data: {data}."


def format_cells(table: Table) -> list[list[str]]:
    """Formats the rows as text.

    A score that is the mean of only some classes has their number. Below each row of scores are
    their intervals, the p-values of differences and the paper's scores, if there are any.
    """
    cells = []
    for row, metric in table.rows.items():
        published_row = f"paper, {published_scores.select_split(metric)}"
        lines = {row: [], DEVIATION: [], INTERVAL: [], P_VALUE: [], published_row: []}
        for column in table.columns:
            name, scores = column.prefix + metric, column.scores
            score = column.format(scores.values[name]) if name in scores.values else "none"
            lines[row].append(f"{score} {protocol.format_partial_count(scores, name)}".strip())
            deviation = scores.deviations.get(name) if column.run.members else None
            lines[DEVIATION].append("" if deviation is None else column.format(deviation))
            lines[INTERVAL].append(score_names.format_interval(scores.intervals, name))
            lines[P_VALUE].append(score_names.format_p_value(scores, name))
            published = column.published.get(name)
            lines[published_row].append("" if published is None else f"{published:.2f}")
        cells += [[head, *texts] for head, texts in lines.items() if head == row or any(texts)]
    return cells


def to_markdown(table: Table) -> str:
    """Formats the table for GitHub."""
    headers = ["", *(escape_markdown(column.header) for column in table.columns)]
    cells = [[escape_markdown(head), *texts] for head, *texts in format_cells(table)]
    align = ["left", *["right"] * len(table.columns)]
    text = tabulate.tabulate(cells, headers, "github", disable_numparse=True, colalign=align)
    return f"**{table.title}**\n\n{text}\n"


def to_latex(table: Table) -> str:
    """Formats a `table` environment; the document needs `booktabs` and `graphicx`."""
    cells = [[text.translate(LATEX) for text in row] for row in format_cells(table)]
    headers = [column.header.translate(LATEX) for column in table.columns]
    stacks = [r" \\ ".join(header.split(" ", 1)) for header in headers]  # the strategy is on top
    headers = [rf"\shortstack{{{stack}}}" for stack in stacks]
    head, *lines = (" & ".join(row) + r" \\" for row in (["", *headers], *cells))
    rows = "\n".join(lines)
    return rf"""\begin{{table}}
\centering
\caption{{{table.title.translate(LATEX)}}}
\resizebox{{\textwidth}}{{!}}{{%
\begin{{tabular}}{{l{"r" * len(headers)}}}
\toprule
{head}
\midrule
{rows}
\bottomrule
\end{{tabular}}}}
\end{{table}}
"""


def to_csv(table: Table) -> str:
    """Formats one line per score, so that each score is next to the name of its dataset."""
    buffer = io.StringIO()
    fields = CSV_HEADER.split(",")
    writer: csv.DictWriter[str] = csv.DictWriter(buffer, fields, lineterminator="\n")
    writer.writeheader()
    for column, (row, metric) in itertools.product(table.columns, table.rows.items()):
        run, scores, name = column.run, column.scores, column.prefix + metric
        line = {"data": published_scores.describe_data(run), "source": run.name}
        line |= {"column": column.header, "row": row, "score": name}
        line = {key: escape_formula(text) for key, text in line.items()}
        if name in scores.values:
            low, high = scores.intervals.get(name, ("", ""))
            count, total = scores.counts.get(name, ("", ""))
            numbers = {"value": scores.values[name], "low": low, "high": high}
            numbers |= {"mean over": count, "of": total, "p": scores.p_values.get(name, "")}
            numbers["deviation"] = scores.deviations.get(name, "") if run.members else ""
            writer.writerow(line | numbers)
        if name in column.published:
            line |= {"data": f"AffectNet, {published_scores.select_split(name)}", "source": "paper"}
            writer.writerow(line | {"value": column.published[name]})
    return buffer.getvalue()


FORMATS = {".md": to_markdown, ".tex": to_latex, ".csv": to_csv}


def write_tables(tables: Mapping[str, Table], out: pathlib.Path) -> None:
    """Prints the tables and writes them to a folder in all formats."""
    print("\n".join(to_markdown(table) for table in tables.values()))
    with writing_to(out):
        for name, table in tables.items():
            for ending, convert in FORMATS.items():
                path = out / f"{name}{ending}"
                with write_atomically(path) as partial:
                    partial.write_text(convert(table), encoding="utf-8")
                print(f"written: {path}")


@handle_cli_errors
def main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser("report.tables", "Writes tables of systems.")
    help = "NAME is any name, RUN a workdir, a study, the folder of a scores.json or predictions"
    parser.add_argument("systems", nargs="+", metavar="NAME=RUN", help=help)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the tables")
    args = parser.parse_args(arguments)
    systems = {}
    for argument in args.systems:
        name, _, path = argument.partition("=")
        if not (name and path) or name in systems:
            raise UserError(f"{argument!r}: must be NAME=RUN, each name once")
        systems[name] = runs.read_run(pathlib.Path(path).expanduser())
    write_tables(create_tables(systems), args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
