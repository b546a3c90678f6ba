"""Command that writes the paper's tables from runs of this code: Markdown, LaTeX and CSV.

    python -m affect_jax.report.tables --out tables/ imbalanced=runs/imbalanced \\
        down-sampling=runs/down up-sampling=runs/up weighted-loss=runs/weighted \\
        dimensional=runs/dimensional

`table7` has F1 by class and strategy, `strategies` the other categorical scores, `dimensional` the
scores of valence and arousal. On AffectNet the paper's scores are in the same table, below the
run's. On other data they are in a separate table that names their dataset.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tabulate

from affect_jax.core.cli import handle_cli_errors
from affect_jax.core.errors import UserError
from affect_jax.core.labels import AXES
from affect_jax.core.registry import describe_unknown_name
from affect_jax.evaluate.scoring import writing_to
from affect_jax.metrics import protocol
from affect_jax.report import published_scores, run_summary, runs, score_names
from affect_jax.report.runs import Run
from affect_jax.report.templating import write_atomically

DIMENSIONAL = "dimensional"
CATEGORICAL_ROWS = {
    "Accuracy": "accuracy",
    "F1, macro": "f1.macro",
    "Cohen’s kappa": "kappa",
    "Krippendorff’s alpha": "alpha",
    "AUC, macro": "auc.macro",
    "AUC-PR, macro": "auc_pr.macro",
}
DIMENSIONAL_ROWS = {"RMSE": "rmse", "CORR": "corr", "SAGR": "sagr", "CCC": "ccc"}
INTERVAL, MEAN_OVER = "95 % interval", "mean over"


class Column(NamedTuple):
    """A column of scores of one run.

    **Arguments:**

    - `group`: header that adjacent columns share, if the format supports it.
    - `header`: column header.
    - `run`: the run; None for a column of published scores.
    - `prefix`: a score's name in `scores.json` is the prefix and the metric of the row.
    - `published`: published scores by name.
    """

    group: str
    header: str
    run: Run | None
    prefix: str
    published: Mapping[str, float]

    @property
    def full_header(self) -> str:
        return f"{self.group} {self.header}".strip()


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


def create_tables(strategies: Mapping[str, Run], dimensional: Run | None) -> dict[str, list[Table]]:
    """Creates the tables, by file name.

    **Arguments:**

    - `strategies`: runs by name, a subset of `published_scores.STRATEGIES`.
    - `dimensional`: the dimensional run, if any.

    **Raises:** `UserError` if a run lacks the scores of its table, or faces differ.
    """
    named_tables: dict[str, list[Table]] = {}
    if strategies:
        first = next(iter(strategies.values()))
        for name, run in strategies.items():
            _require_score(name, run, "categorical.top1.original.accuracy")
            try:
                protocol.align(first.predictions, run.predictions)
            except UserError as error:
                raise UserError(f"{first.name} and {run.name}: {error}") from None
        columns = _create_categorical_columns(strategies, first.predictions.classes)
        rows = {name: f"f1.{name}" for name in (*first.predictions.classes, "macro")}
        source, split = "the paper’s Table 7 (macro: column means)", published_scores.TEST_SPLIT
        named_tables["table7"] = _create_tables("F1 by class", source, rows, columns, split)
        named_tables["strategies"] = _create_tables(
            "Scores by strategy", "", CATEGORICAL_ROWS, columns, split
        )
    if dimensional is not None:
        _require_score(DIMENSIONAL, dimensional, "dimensional.valence.rmse")
        published, split = published_scores.DIMENSIONAL, published_scores.VALIDATION_SPLIT
        columns = [
            Column("", axis, dimensional, f"dimensional.{axis}.", published) for axis in AXES
        ]
        named_tables[DIMENSIONAL] = _create_tables(
            "Valence and arousal", "the paper’s AlexNet", DIMENSIONAL_ROWS, columns, split
        )
    return named_tables


def _require_score(name: str, run: Run, score: str) -> None:
    if score not in run.scores.values:
        model = score_names.lookup_model_name(score).lower()
        raise UserError(f"{name}={run.name}: the run has no {model}")


def _create_categorical_columns(
    strategies: Mapping[str, Run], classes: tuple[str, ...]
) -> list[Column]:
    """Creates the four columns of each strategy; `run` is None for a strategy without a run."""
    columns = []
    for strategy in published_scores.STRATEGIES:
        has_published = published_scores.has_paper_classes(classes)
        published = published_scores.lookup_f1(strategy) if has_published else {}
        for rule, skew in published_scores.TABLE7_COLUMNS:
            header = f"{score_names.RULE_NAMES[rule]} {score_names.SKEW_NAMES[skew]}"
            prefix = f"categorical.{rule}.{skew}."
            columns.append(Column(strategy, header, strategies.get(strategy), prefix, published))
    return columns


def _create_tables(
    title: str,
    published_source: str,
    rows: Mapping[str, str],
    columns: Sequence[Column],
    published_split: str,
) -> list[Table]:
    """Creates the table of the runs, and one of published scores if they are on other data.

    **Arguments:**

    - `published_source`: an empty string omits the table of published scores.
    """
    run = published_scores.select_least_comparable([c.run for c in columns if c.run is not None])
    comparable = not published_scores.why_not_comparable(run.metadata, run.predictions)
    ours = [
        column if comparable else column._replace(published={})
        for column in columns
        if column.run is not None
    ]
    split = f", {run.metadata['split']} split" if "split" in run.metadata else ""
    notice = "" if comparable else "; NOT AffectNet, do not compare with scores published on it"
    data = f"{run_summary.describe_data(run)}{split}, {len(run.predictions):,} faces{notice}"
    tables = [Table(f"{title}. Data: {data}.", rows, ours, published_split)]
    if published_source and not comparable and columns[0].published:
        data = f"AffectNet, {published_split}; a different dataset than above"
        papers = [column._replace(run=None) for column in columns]
        tables.append(
            Table(f"{title}: {published_source}. Data: {data}.", rows, papers, published_split)
        )
    return tables


def format_cells(table: Table) -> list[list[str]]:
    """Formats the rows as text.

    Below each row of scores are their intervals, the number of classes of partial means and the
    paper's scores, if there are any.
    """
    cells = []
    for row, metric in table.rows.items():
        published_row = f"paper, {table.published_split}"
        lines = {row: [], INTERVAL: [], MEAN_OVER: [], published_row: []}
        for column in table.columns:
            name = column.prefix + metric
            published = f"{column.published[name]:.2f}" if name in column.published else ""
            if column.run is None:
                lines[row].append(published)
                continue
            scores = column.run.scores
            count = protocol.format_partial_count(scores, name).removeprefix("over ")
            lines[row].append(score_names.format_score(scores.values[name]))
            lines[INTERVAL].append(score_names.format_interval(scores.intervals, name))
            lines[MEAN_OVER].append(count)
            lines[published_row].append(published)
        cells += [[head, *texts] for head, texts in lines.items() if head == row or any(texts)]
    return cells


def to_markdown(tables: Sequence[Table]) -> str:
    """Formats the tables for GitHub."""
    parts = []
    for table in tables:
        headers = ["", *(column.full_header for column in table.columns)]
        body = [[text.replace("|", "\\|") for text in row] for row in format_cells(table)]
        parts.append(f"**{table.title}**\n\n{_tabulate(body, headers, 'github')}\n")
    return "\n".join(parts)


def _tabulate(cells: Sequence[Sequence[str]], headers: Sequence[str], format: str) -> str:
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate.tabulate(cells, headers, tablefmt=format, disable_numparse=True, colalign=align)


def to_latex(tables: Sequence[Table]) -> str:
    """Formats `table` environments; the document needs `booktabs` and `graphicx`."""
    parts = []
    for table in tables:
        headers = ["", *(column.header for column in table.columns)]
        text = _tabulate(format_cells(table), headers, "latex_booktabs")
        text = text.replace("\\toprule", "\\toprule" + _latex_group_row(table.columns), 1)
        title = table.title.translate(str.maketrans(tabulate.LATEX_ESCAPE_RULES))
        parts.append(
            f"\\begin{{table}}\n\\centering\n\\caption{{{title}}}\n"
            f"\\resizebox{{\\textwidth}}{{!}}{{%\n{text}}}\n\\end{{table}}\n"
        )
    return "\n".join(parts).replace("−", "$-$")  # the true minus sign


def _latex_group_row(columns: Sequence[Column]) -> str:
    """Returns the LaTeX row of group headers with rules below; empty without groups."""
    if not any(column.group for column in columns):
        return ""
    cells, rules, first = [], [], 2
    for name, group in itertools.groupby(column.group for column in columns):
        count = len(list(group))
        cells.append(f"\\multicolumn{{{count}}}{{c}}{{{name}}}")
        rules.append(f"\\cmidrule(lr){{{first}-{first + count - 1}}}")
        first += count
    return f"\n & {' & '.join(cells)} \\\\\n{' '.join(rules)}"


def to_csv(tables: Sequence[Table]) -> str:
    """Formats one line per score, so that each score is next to the name of its dataset."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header = ("data", "source", "column", "row", "score", "value", "low", "high", "mean over", "of")
    writer.writerow(header)
    for table in tables:
        for column in table.columns:
            for row, metric in table.rows.items():
                name = column.prefix + metric
                cell = (column.full_header, row, name)
                if column.run is not None:
                    scores = column.run.scores
                    origin = (run_summary.describe_data(column.run), column.run.name)
                    ends = scores.intervals.get(name, ("", ""))
                    counts = scores.counts.get(name, ("", ""))
                    writer.writerow([*origin, *cell, scores.values[name], *ends, *counts])
                if name in column.published:
                    origin = (f"AffectNet, {table.published_split}", "paper")
                    writer.writerow([*origin, *cell, column.published[name], "", "", "", ""])
    return buffer.getvalue()


FORMATS = {".md": to_markdown, ".tex": to_latex, ".csv": to_csv}


def read_runs(arguments: Sequence[str]) -> tuple[dict[str, Run], Run | None]:
    """Reads the runs of `NAME=PATH` arguments.

    **Returns:** runs of strategies by name, and the dimensional run.

    **Raises:** `UserError` for an unknown or repeated name, and if runs were scored on different
    data.
    """
    names = (*published_scores.STRATEGIES, DIMENSIONAL)
    paths: dict[str, pathlib.Path] = {}
    for argument in arguments:
        name, _, path = argument.partition("=")
        if name not in names or not path:
            raise UserError(
                f"{argument!r}: must be NAME=RUN; name {describe_unknown_name(name, names)}"
            )
        if name in paths:
            raise UserError(f"{name}: repeated; list each name once")
        paths[name] = pathlib.Path(path)
    loaded = {name: runs.read_run(paths[name]) for name in names if name in paths}
    dimensional = loaded.pop(DIMENSIONAL) if DIMENSIONAL in loaded else None
    fingerprints = {name: str(run.metadata.get("fingerprint", "")) for name, run in loaded.items()}
    if len(set(fingerprints.values())) > 1:
        raise UserError(f"{', '.join(fingerprints)}: scored on different prepared data")
    return loaded, dimensional


@handle_cli_errors
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m affect_jax.report.tables",
        description="Writes the paper's tables from runs.",
    )
    names = ", ".join((*published_scores.STRATEGIES, DIMENSIONAL))
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help=f"NAME is one of {names}")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the tables")
    args = parser.parse_args(arguments)
    named_tables = create_tables(*read_runs(args.runs))
    print("\n".join(to_markdown(tables) for tables in named_tables.values()))
    with writing_to(args.out):
        for name, tables in named_tables.items():
            for ending, convert in FORMATS.items():
                path = args.out / f"{name}{ending}"
                write_atomically(path, convert(tables))
                print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
