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
import dataclasses
import io
import itertools
import pathlib
import sys
from collections.abc import Mapping, Sequence

import tabulate

from affect_jax.core.cli import handle_cli_errors
from affect_jax.core.errors import UserError
from affect_jax.core.labels import AXES
from affect_jax.core.registry import describe_unknown_name
from affect_jax.metrics import protocol
from affect_jax.report import published_scores, run_summary, runs, score_names
from affect_jax.report.runs import Run
from affect_jax.report.templating import write_atomically

DIMENSIONAL = "dimensional"
CATEGORICAL_METRICS = ("accuracy", "f1.macro", "kappa", "alpha", "auc.macro", "auc_pr.macro")
DIMENSIONAL_METRICS = ("rmse", "corr", "sagr", "ccc")
INTERVAL, MEAN_OVER = "95 % interval", "mean over"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of scores of one run.

    **Arguments:**

    - `header`: column header.
    - `run`: the run; None for a column of published scores.
    - `keys`: score names of `scores.json`, one per row.
    - `published`: published scores by name.
    - `published_split`: the AffectNet split of the published scores.
    - `group`: header that adjacent columns share, if the format supports it.
    """

    header: str
    run: Run | None
    keys: Sequence[str]
    published: Mapping[str, float]
    published_split: str
    group: str = ""

    @property
    def full_header(self) -> str:
        return f"{self.group} {self.header}".strip()


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of scores.

    **Arguments:**

    - `title`: content and dataset.
    - `rows`: row headers.
    - `columns`: the columns.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[Column]


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
        classes = [*first.predictions.classes, "macro"]
        named_tables["table7"] = _create_categorical_tables(
            strategies, "F1 by class", classes, "f1.{}", True
        )
        titles = [
            score_names.format_title(f"categorical.top1.original.{k}").split(" · ")[0]
            for k in CATEGORICAL_METRICS
        ]
        named_tables["strategies"] = _create_categorical_tables(
            strategies, "Scores by strategy", titles, "{}", False
        )
    if dimensional is not None:
        named_tables["dimensional"] = _create_dimensional_tables(dimensional)
    return named_tables


def _create_categorical_tables(
    strategies: Mapping[str, Run],
    title: str,
    rows: Sequence[str],
    pattern: str,
    with_published: bool,
) -> list[Table]:
    metrics = rows if pattern == "f1.{}" else CATEGORICAL_METRICS
    columns, published_columns = [], []
    least_comparable = _least_comparable(list(strategies.values()))
    comparable = not published_scores.why_not_comparable(
        least_comparable.metadata, least_comparable.predictions
    )
    paper_classes = published_scores.has_paper_classes(least_comparable.predictions.classes)
    for strategy in published_scores.STRATEGIES:
        for rule, skew in published_scores.TABLE7_COLUMNS:
            names = [f"categorical.{rule}.{skew}.{pattern.format(metric)}" for metric in metrics]
            header = f"{score_names.RULE_NAMES[rule]} {score_names.SKEW_NAMES[skew]}"
            published = published_scores.lookup_f1(strategy)
            split = published_scores.TEST_SPLIT
            published_columns.append(Column(header, None, names, published, split, strategy))
            if strategy in strategies:
                shared = published if comparable and paper_classes else {}
                run = strategies[strategy]
                columns.append(Column(header, run, names, shared, split, strategy))
    tables = [Table(f"{title}. {_describe_data(least_comparable)}", rows, columns)]
    if with_published and paper_classes and not comparable:
        tables.append(
            _create_published_table(
                f"{title}: the paper’s Table 7 (macro: column means)", rows, published_columns
            )
        )
    return tables


def _require_score(name: str, run: Run, score: str) -> None:
    if score not in run.scores.values:
        raise UserError(
            f"{name}={run.name}: the run has no {score_names.lookup_model_name(score).lower()}"
        )


def _least_comparable(candidates: Sequence[Run]) -> Run:
    """Returns a run that is not comparable with the paper if there is one, else the first."""
    reasons = [
        published_scores.why_not_comparable(run.metadata, run.predictions) for run in candidates
    ]
    return next((run for run, why in zip(candidates, reasons, strict=True) if why), candidates[0])


def _create_dimensional_tables(run: Run) -> list[Table]:
    _require_score("dimensional", run, "dimensional.valence.rmse")
    reason = published_scores.why_not_comparable(run.metadata, run.predictions)
    names = {axis: [f"dimensional.{axis}.{m}" for m in DIMENSIONAL_METRICS] for axis in AXES}
    rows = [score_names.METRIC_NAMES[metric] for metric in DIMENSIONAL_METRICS]
    published = {} if reason else published_scores.DIMENSIONAL
    columns = [
        Column(axis, run, names[axis], published, published_scores.VALIDATION_SPLIT)
        for axis in AXES
    ]
    tables = [Table(f"Valence and arousal. {_describe_data(run)}", rows, columns)]
    if reason:
        published_columns = [
            Column(
                axis,
                None,
                names[axis],
                published_scores.DIMENSIONAL,
                published_scores.VALIDATION_SPLIT,
            )
            for axis in AXES
        ]
        tables.append(
            _create_published_table(
                "Valence and arousal: the paper’s AlexNet", rows, published_columns
            )
        )
    return tables


def _describe_data(run: Run) -> str:
    """Describes a run's data, such as `Data: AffectNet, validation split, 4,000 faces.`"""
    reason = published_scores.why_not_comparable(run.metadata, run.predictions)
    split = f", {run.metadata['split']} split" if "split" in run.metadata else ""
    notice = "; NOT AffectNet, do not compare with scores published on it" if reason else ""
    return f"Data: {run_summary.describe_data(run)}{split}, {len(run.predictions):,} faces{notice}."


def _create_published_table(title: str, rows: Sequence[str], columns: Sequence[Column]) -> Table:
    source = f"Data: AffectNet, {columns[0].published_split}; a different dataset than above."
    return Table(f"{title}. {source}", rows, columns)


def format_cells(table: Table) -> list[list[str]]:
    """Formats the rows as text.

    Below each row of scores are their intervals, the number of classes of partial means and the
    paper's scores, if there are any.
    """
    cells = []
    for i, row in enumerate(table.rows):
        published_row = f"paper, {table.columns[0].published_split}"
        lines = {row: [], INTERVAL: [], MEAN_OVER: [], published_row: []}
        for column in table.columns:
            name = column.keys[i]
            published_text = f"{column.published[name]:.2f}" if name in column.published else ""
            if column.run is None:
                lines[row].append(published_text)
                continue
            scores = column.run.scores
            lines[row].append(score_names.format_score(scores.values[name]))
            lines[INTERVAL].append(score_names.format_interval(scores.intervals, name))
            lines[MEAN_OVER].append(
                protocol.format_partial_count(scores, name).removeprefix("over ")
            )
            lines[published_row].append(published_text)
        cells += [[head, *texts] for head, texts in lines.items() if head == row or any(texts)]
    return cells


def to_markdown(tables: Sequence[Table]) -> str:
    parts = []
    for table in tables:
        headers = ["", *(column.full_header for column in table.columns)]
        body = [[text.replace("|", "\\|") for text in row] for row in format_cells(table)]
        align = ["left", *["right"] * len(table.columns)]
        rendered = tabulate.tabulate(
            body, headers, tablefmt="github", disable_numparse=True, colalign=align
        )
        parts.append(f"**{table.title}**\n\n{rendered}\n")
    return "\n".join(parts)


_LATEX_ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX_ESCAPES |= {c: "\\" + c for c in "&%$#_{}"} | {"−": "$-$", "’": "'", "–": "--"}


def to_latex(tables: Sequence[Table]) -> str:
    """Formats `table` environments; the document needs `booktabs` and `graphicx`."""
    parts = []
    for table in tables:
        headers = ["", *(column.header for column in table.columns)]
        align = ["left", *["right"] * len(table.columns)]
        # tabulate escapes special characters, except the true minus sign.
        text = tabulate.tabulate(
            format_cells(table),
            headers,
            tablefmt="latex_booktabs",
            disable_numparse=True,
            colalign=align,
        ).replace("−", "$-$")
        text = text.replace("\\toprule", "\\toprule" + _latex_group_row(table.columns), 1)
        parts.append(
            "\\begin{table}\n\\centering\n"
            f"\\caption{{{table.title.translate(str.maketrans(_LATEX_ESCAPES))}}}\n"
            f"\\resizebox{{\\textwidth}}{{!}}{{%\n{text}}}\n\\end{{table}}\n"
        )
    return "\n".join(parts)


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
            for row, name in zip(table.rows, column.keys, strict=True):
                if column.run is not None:
                    scores = column.run.scores
                    ends, counts = (
                        scores.intervals.get(name, ("", "")),
                        scores.counts.get(name, ("", "")),
                    )
                    origin = (
                        run_summary.describe_data(column.run),
                        column.run.name,
                        column.full_header,
                        row,
                    )
                    writer.writerow([*origin, name, scores.values[name], *ends, *counts])
                if name in column.published:
                    origin = (
                        f"AffectNet, {column.published_split}",
                        "paper",
                        column.full_header,
                        row,
                    )
                    writer.writerow([*origin, name, column.published[name], "", "", "", ""])
    return buffer.getvalue()


FORMATS = {".md": to_markdown, ".tex": to_latex, ".csv": to_csv}


def write_tables(
    named_tables: Mapping[str, Sequence[Table]], folder: pathlib.Path
) -> list[pathlib.Path]:
    """Writes every table in every format.

    **Returns:** the paths of the files.

    **Raises:** `UserError` if the folder cannot be written.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, tables in named_tables.items():
            for ending, convert in FORMATS.items():
                write_atomically(folder / f"{name}{ending}", convert(tables))
                paths.append(folder / f"{name}{ending}")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    return paths


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
    paths = write_tables(named_tables, args.out)
    print("\n".join(to_markdown(tables) for tables in named_tables.values()))
    print("\n".join(f"written: {path}" for path in paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
