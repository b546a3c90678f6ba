"""Command that writes the paper's tables from runs of this code: Markdown, LaTeX and CSV.

    python -m affect_jax.report.tables --out tables/ imbalanced=runs/imbalanced \\
        down-sampling=runs/down up-sampling=runs/up weighted-loss=runs/weighted \\
        dimensional=runs/dimensional

`table7` has F1 by class and strategy, `strategies` the other categorical scores, `dimensional` the
scores of valence and arousal. On AffectNet the paper's scores are below the run's.
"""

from __future__ import annotations

import csv
import io
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tabulate

from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.core.errors import UserError
from affect_jax.core.labels import AXES
from affect_jax.core.paths import write_atomically, writing_to
from affect_jax.core.registry import describe_unknown_name
from affect_jax.core.spreadsheets import escape_formula
from affect_jax.metrics import protocol
from affect_jax.report import published_scores, runs, score_names
from affect_jax.report.runs import Run

DIMENSIONAL = "dimensional"
NAMES = (*published_scores.STRATEGIES, DIMENSIONAL)
CATEGORICAL_ROWS = {
    "Accuracy": "accuracy",
    "F1, macro": "f1.macro",
    "Cohen’s kappa": "kappa",
    "Krippendorff’s alpha": "alpha",
    "AUC, macro": "auc.macro",
    "AUC-PR, macro": "auc_pr.macro",
}
DIMENSIONAL_ROWS = {"RMSE": "rmse", "CORR": "corr", "SAGR": "sagr", "CCC": "ccc"}
INTERVAL = "95 % interval"


class Column(NamedTuple):
    """A column of scores of one run.

    **Arguments:**

    - `header`: column header.
    - `run`: the run.
    - `prefix`: a score's name in `scores.json` is the prefix and the metric of the row.
    - `published`: published scores by name; empty if the run is not comparable with them.
    """

    header: str
    run: Run
    prefix: str
    published: Mapping[str, float]


class Table(NamedTuple):
    """A table of scores.

    **Arguments:**

    - `title`: content and dataset.
    - `rows`: metric of each row by row header.
    - `columns`: the columns.
    - `published_split`: the AffectNet split of the published scores.
    """

    title: str
    rows: Mapping[str, str]
    columns: Sequence[Column]
    published_split: str


def create_tables(named_runs: Mapping[str, Run]) -> dict[str, Table]:
    """Creates the tables, by file name.

    **Arguments:**

    - `named_runs`: runs by name, one of `NAMES`.

    **Raises:** `UserError` if a run lacks the scores of its table, or faces differ.
    """
    for name, run in named_runs.items():
        model = DIMENSIONAL if name == DIMENSIONAL else "categorical"
        if not any(score.startswith(model) for score in run.scores.values):
            text = score_names.MODEL_NAMES[model].lower()
            raise UserError(f"{name}={run.name}: the run has no {text}")
    tables = {}
    names = [name for name in published_scores.STRATEGIES if name in named_runs]
    if names:
        first = named_runs[names[0]]
        columns = [
            column for name in names for column in _create_columns(first, name, named_runs[name])
        ]
        rows = {name: f"f1.{name}" for name in (*first.predictions.classes, "macro")}
        split = published_scores.TEST_SPLIT
        tables["table7"] = Table(_format_title("F1 by class", first), rows, columns, split)
        title = _format_title("Scores by strategy", first)
        tables["strategies"] = Table(title, CATEGORICAL_ROWS, columns, split)
    if DIMENSIONAL in named_runs:
        run = named_runs[DIMENSIONAL]
        published = published_scores.select_published(run)
        columns = [Column(axis, run, f"dimensional.{axis}.", published) for axis in AXES]
        title = _format_title("Valence and arousal", run)
        split = published_scores.VALIDATION_SPLIT
        tables[DIMENSIONAL] = Table(title, DIMENSIONAL_ROWS, columns, split)
    return tables


def _create_columns(first: Run, strategy: str, run: Run) -> list[Column]:
    """Creates the four columns of a strategy; its run must have the faces of the first run."""
    try:
        protocol.align(first.predictions, run.predictions)
    except UserError as error:
        raise UserError(f"{first.name} and {run.name}: {error}") from None
    is_comparable = not published_scores.why_not_comparable(run.metadata, run.predictions)
    classes = run.predictions.classes
    published = published_scores.lookup_f1(strategy, classes) if is_comparable else {}
    return [
        Column(f"{strategy} {header}", run, f"categorical.{kind}.", published)
        for header, kind in published_scores.TABLE7_COLUMNS.items()
    ]


def _format_title(content: str, run: Run) -> str:
    """Returns the title of a table with the dataset of its runs."""
    split = f", {run.metadata['split']} split" if "split" in run.metadata else ""
    is_comparable = not published_scores.why_not_comparable(run.metadata, run.predictions)
    notice = "" if is_comparable else "; NOT AffectNet, do not compare with scores published on it"
    data = f"{published_scores.describe_data(run)}{split}, {len(run.predictions):,} faces{notice}"
    return f"{content}. Data: {data}."


def format_cells(table: Table) -> list[list[str]]:
    """Formats the rows as text.

    A score that is the mean of only some classes has their number. Below each row of scores are
    their intervals and the paper's scores, if there are any.
    """
    cells = []
    for row, metric in table.rows.items():
        published_row = f"paper, {table.published_split}"
        lines = {row: [], INTERVAL: [], published_row: []}
        for column in table.columns:
            name = column.prefix + metric
            scores, published = column.run.scores, column.published
            score = score_names.format_score(scores.values[name])
            lines[row].append(f"{score} {protocol.format_partial_count(scores, name)}".strip())
            lines[INTERVAL].append(score_names.format_interval(scores.intervals, name))
            lines[published_row].append(f"{published[name]:.2f}" if name in published else "")
        cells += [[head, *texts] for head, texts in lines.items() if head == row or any(texts)]
    return cells


def to_markdown(table: Table) -> str:
    """Formats the table for GitHub."""
    return f"**{table.title}**\n\n{_tabulate(table, 'github')}\n"


def _tabulate(table: Table, format: str) -> str:
    headers = ["", *(column.header for column in table.columns)]
    align = ["left", *["right"] * len(table.columns)]
    cells = format_cells(table)
    return tabulate.tabulate(cells, headers, tablefmt=format, disable_numparse=True, colalign=align)


def to_latex(table: Table) -> str:
    """Formats a `table` environment; the document needs `booktabs` and `graphicx`."""
    text = _tabulate(table, "latex_booktabs")
    for column in table.columns:  # the strategy is above the other words
        lines = " \\\\ ".join(column.header.split(" ", 1))
        text = text.replace(f" {column.header} ", f" \\shortstack{{{lines}}} ", 1)
    title = table.title.translate(str.maketrans(tabulate.LATEX_ESCAPE_RULES))
    text = (
        f"\\begin{{table}}\n\\centering\n\\caption{{{title}}}\n"
        f"\\resizebox{{\\textwidth}}{{!}}{{%\n{text}}}\n\\end{{table}}\n"
    )
    return text.replace("−", "$-$")  # the true minus sign


def to_csv(table: Table) -> str:
    """Formats one line per score, so that each score is next to the name of its dataset."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header = ("data", "source", "column", "row", "score", "value", "low", "high", "mean over", "of")
    writer.writerow(header)
    for column in table.columns:
        run, scores = column.run, column.run.scores
        origin = (published_scores.describe_data(run), run.name)
        for row, metric in table.rows.items():
            name = column.prefix + metric
            ends = scores.intervals.get(name, ("", ""))
            counts = scores.counts.get(name, ("", ""))
            texts = map(escape_formula, (*origin, column.header, row, name))
            writer.writerow((*texts, scores.values[name], *ends, *counts))
            if name in column.published:
                texts = (f"AffectNet, {table.published_split}", "paper", column.header, row, name)
                writer.writerow((*texts, column.published[name], "", "", "", ""))
    return buffer.getvalue()


FORMATS = {".md": to_markdown, ".tex": to_latex, ".csv": to_csv}


@handle_cli_errors
def main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser(
        prog="python -m affect_jax.report.tables",
        description="Writes the paper's tables from runs.",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="NAME=RUN", help=f"NAME is one of {', '.join(NAMES)}"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the tables")
    args = parser.parse_args(arguments)
    named_runs = {}
    for argument in args.runs:
        name, _, path = argument.partition("=")
        if name not in NAMES or not path:
            known = describe_unknown_name(name, NAMES)
            raise UserError(f"{argument!r}: must be NAME=RUN; name {known}")
        named_runs[name] = runs.read_run(pathlib.Path(path).expanduser())
    tables = create_tables(named_runs)
    print("\n".join(to_markdown(table) for table in tables.values()))
    with writing_to(args.out):
        for name, table in tables.items():
            for ending, convert in FORMATS.items():
                path = args.out / f"{name}{ending}"
                with write_atomically(path) as partial:
                    partial.write_text(convert(table), encoding="utf-8")
                print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
