"""The paper's tables from runs of this code: Markdown, LaTeX and CSV.

    python -m affect_jax.report.tables --out tables/ imbalanced=runs/imbalanced \\
        down-sampling=runs/down up-sampling=runs/up weighted-loss=runs/weighted \\
        dimensional=runs/dimensional

`table7` is F1 of each class by strategy; `strategies`, the other categorical scores;
`dimensional`, those of valence and arousal. On AffectNet the paper's numbers stand below this
code's; on other data they stand in a table of their own that says what they are of.
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

from affect_jax.core.cli import answering
from affect_jax.core.errors import UserError
from affect_jax.core.labels import AXES
from affect_jax.core.registry import unknown
from affect_jax.metrics import protocol
from affect_jax.report import published_scores, run_summary, runs, score_names
from affect_jax.report.runs import Run
from affect_jax.report.templating import write_text

DIMENSIONAL = "dimensional"
KINDS = ("accuracy", "f1.macro", "kappa", "alpha", "auc.macro", "auc_pr.macro")
AXIS_KINDS = ("rmse", "corr", "sagr", "ccc")
INTERVAL, FEWER = "95 % interval", "mean over"


@dataclasses.dataclass(frozen=True)
class Column:
    """Scores of one run below one another.

    **Arguments:**

    - `head`: what stands above.
    - `run`: whose scores; None: the paper's.
    - `names`: of the scores, one a row.
    - `papers`: published numbers by name; `papers_on`: which faces of AffectNet they are of.
    - `group`: what stands above the heads of neighbours that share it, where a format can.
    """

    head: str
    run: Run | None
    names: Sequence[str]
    papers: Mapping[str, float]
    papers_on: str
    group: str = ""

    @property
    def whole_head(self) -> str:
        return f"{self.group} {self.head}".strip()


@dataclasses.dataclass(frozen=True)
class Table:
    """**Arguments:**

    - `title`: what is in it, and on which data.
    - `rows`: what stands at the left.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[Column]


def tables(strategies: Mapping[str, Run], dimensional: Run | None) -> dict[str, list[Table]]:
    """File name -> its tables.

    **Arguments:**

    - `strategies`: by name, some of `paper.STRATEGIES`.

    **Raises:** `UserError` where a run lacks what its table is of, or data differ.
    """
    found: dict[str, list[Table]] = {}
    if strategies:
        first = next(iter(strategies.values()))
        for name, run in strategies.items():
            _check(name, run, "categorical.top1.original.accuracy")
            try:
                protocol.aligned(first.table, run.table)
            except UserError as error:
                raise UserError(f"{first.name} and {run.name}: {error}") from None
        classes = [*first.table.classes, "macro"]
        found["table7"] = _categorical(strategies, "F1 of each class", classes, "f1.{}", True)
        titles = [
            score_names.title(f"categorical.top1.original.{k}").split(" · ")[0] for k in KINDS
        ]
        found["strategies"] = _categorical(
            strategies, "Scores of each strategy", titles, "{}", False
        )
    if dimensional is not None:
        found["dimensional"] = _dimensional(dimensional)
    return found


def _categorical(
    strategies: Mapping[str, Run], title: str, rows: Sequence[str], pattern: str, published: bool
) -> list[Table]:
    kinds = rows if pattern == "f1.{}" else KINDS
    columns, papers = [], []
    telling = _telling(list(strategies.values()))
    comparable = not published_scores.why_not_comparable(telling.about, telling.table)
    eight = published_scores.eight(telling.table.classes)  # F1 among others is another task
    for strategy in published_scores.STRATEGIES:
        for rule, skew in published_scores.COLUMNS:
            names = [f"categorical.{rule}.{skew}.{pattern.format(kind)}" for kind in kinds]
            head = f"{score_names.RULES[rule]} {score_names.SKEWS[skew]}"
            numbers = published_scores.categorical(strategy)
            papers.append(Column(head, None, names, numbers, published_scores.TEST, strategy))
            if strategy in strategies:
                beside = numbers if comparable and eight else {}
                run = strategies[strategy]
                columns.append(Column(head, run, names, beside, published_scores.TEST, strategy))
    found = [Table(f"{title}. {_where(telling)}", rows, columns)]
    if published and eight and not comparable:
        found.append(
            _published(f"{title}: the paper’s Table 7, macro its columns’ means", rows, papers)
        )
    return found


def _check(name: str, run: Run, score: str) -> None:
    if score not in run.scores.values:
        raise UserError(
            f"{name}={run.name}: it has no {score_names.model_of(score).lower()} to show"
        )


def _telling(several: Sequence[Run]) -> Run:
    """One that may not stand beside the paper, where there is one."""
    reasons = [published_scores.why_not_comparable(run.about, run.table) for run in several]
    return next((run for run, why in zip(several, reasons, strict=True) if why), several[0])


def _dimensional(run: Run) -> list[Table]:
    _check("dimensional", run, "dimensional.valence.rmse")
    reason = published_scores.why_not_comparable(run.about, run.table)
    names = {axis: [f"dimensional.{axis}.{kind}" for kind in AXIS_KINDS] for axis in AXES}
    rows = [score_names.MEASURES[kind] for kind in AXIS_KINDS]
    numbers = {} if reason else published_scores.DIMENSIONAL
    columns = [
        Column(axis, run, names[axis], numbers, published_scores.VALIDATION) for axis in AXES
    ]
    found = [Table(f"Valence and arousal. {_where(run)}", rows, columns)]
    if reason:
        papers = [
            Column(
                axis, None, names[axis], published_scores.DIMENSIONAL, published_scores.VALIDATION
            )
            for axis in AXES
        ]
        found.append(_published("Valence and arousal: the paper’s AlexNet", rows, papers))
    return found


def _where(run: Run) -> str:
    """`Data: rendered faces (synthetic_faces), validation split, 1,000 faces; not AffectNet.`"""
    reason = published_scores.why_not_comparable(run.about, run.table)
    split = f", {run.about['split']} split" if "split" in run.about else ""
    end = "; NOT AffectNet, not to be compared with numbers published on it" if reason else ""
    return f"Data: {run_summary.data_name(run)}{split}, {len(run.table):,} faces{end}."


def _published(title: str, rows: Sequence[str], columns: Sequence[Column]) -> Table:
    where = f"Data: AffectNet, {columns[0].papers_on}: another data set than above."
    return Table(f"{title}. {where}", rows, columns)


def cells(table: Table) -> list[list[str]]:
    """The rows as text: a score's number; below it its interval, how many classes a mean is over
    where not all, and the paper's number."""
    found = []
    for i, row in enumerate(table.rows):
        published = f"paper, {table.columns[0].papers_on}"
        lines = {row: [], INTERVAL: [], FEWER: [], published: []}
        for column in table.columns:
            name = column.names[i]
            known = f"{column.papers[name]:.2f}" if name in column.papers else ""
            if column.run is None:
                lines[row].append(known)
                continue
            own = column.run.scores
            lines[row].append(score_names.number(own.values[name]))
            lines[INTERVAL].append(score_names.interval(own.intervals, name))
            lines[FEWER].append(protocol.fewer(own, name).removeprefix("over "))
            lines[published].append(known)
        found += [[head, *texts] for head, texts in lines.items() if head == row or any(texts)]
    return found


def markdown(several: Sequence[Table]) -> str:
    parts = []
    for table in several:
        heads = ["", *(column.whole_head for column in table.columns)]
        body = [[text.replace("|", "\\|") for text in row] for row in cells(table)]
        align = ["left", *["right"] * len(table.columns)]
        shown = tabulate.tabulate(
            body, heads, tablefmt="github", disable_numparse=True, colalign=align
        )
        parts.append(f"**{table.title}**\n\n{shown}\n")
    return "\n".join(parts)


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {c: "\\" + c for c in "&%$#_{}"} | {"−": "$-$", "’": "'", "–": "--"}


def latex(several: Sequence[Table]) -> str:
    """`table` environments for a document that uses `booktabs` and `graphicx`."""
    parts = []
    for table in several:
        heads = ["", *(column.head for column in table.columns)]
        align = ["left", *["right"] * len(table.columns)]
        # tabulate escapes what is special, all but what stands for a true minus.
        shown = tabulate.tabulate(
            cells(table), heads, tablefmt="latex_booktabs", disable_numparse=True, colalign=align
        ).replace("−", "$-$")
        shown = shown.replace("\\toprule", "\\toprule" + _groups(table.columns), 1)
        parts.append(
            "\\begin{table}\n\\centering\n"
            f"\\caption{{{table.title.translate(str.maketrans(_LATEX))}}}\n"
            f"\\resizebox{{\\textwidth}}{{!}}{{%\n{shown}}}\n\\end{{table}}\n"
        )
    return "\n".join(parts)


def _groups(columns: Sequence[Column]) -> str:
    """The line of LaTeX above the heads, with a rule below each group; "" where there are none."""
    if not any(column.group for column in columns):
        return ""
    cells, rules, first = [], [], 2
    for name, group in itertools.groupby(column.group for column in columns):
        count = len(list(group))
        cells.append(f"\\multicolumn{{{count}}}{{c}}{{{name}}}")
        rules.append(f"\\cmidrule(lr){{{first}-{first + count - 1}}}")
        first += count
    return f"\n & {' & '.join(cells)} \\\\\n{' '.join(rules)}"


def comma_separated(several: Sequence[Table]) -> str:
    """One line a number, so that no number is without its data set."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    head = ("data", "source", "column", "row", "score", "value", "low", "high", "mean over", "of")
    writer.writerow(head)
    for table in several:
        for column in table.columns:
            for row, name in zip(table.rows, column.names, strict=True):
                if column.run is not None:
                    own = column.run.scores
                    ends, counts = own.intervals.get(name, ("", "")), own.counts.get(name, ("", ""))
                    about = (
                        run_summary.data_name(column.run),
                        column.run.name,
                        column.whole_head,
                        row,
                    )
                    writer.writerow([*about, name, own.values[name], *ends, *counts])
                if name in column.papers:
                    about = (f"AffectNet, {column.papers_on}", "paper", column.whole_head, row)
                    writer.writerow([*about, name, column.papers[name], "", "", "", ""])
    return buffer.getvalue()


FORMATS = {".md": markdown, ".tex": latex, ".csv": comma_separated}


def write(found: Mapping[str, Sequence[Table]], folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes every table in every format; returns the files.

    **Raises:** `UserError` where the folder cannot be written.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, several in found.items():
            for ending, convert in FORMATS.items():
                write_text(folder / f"{name}{ending}", convert(several))
                paths.append(folder / f"{name}{ending}")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    return paths


def read(given: Sequence[str]) -> tuple[dict[str, Run], Run | None]:
    """Runs of `NAME=PATH` arguments: those of strategies, and the dimensional one.

    **Raises:** `UserError` for an unknown or repeated name, and where runs were scored on different
    faces.
    """
    known = (*published_scores.STRATEGIES, DIMENSIONAL)
    paths: dict[str, pathlib.Path] = {}
    for text in given:
        name, _, path = text.partition("=")
        if name not in known or not path:
            raise UserError(f"{text!r}: must be NAME=RUN; name {unknown(name, known)}")
        if name in paths:
            raise UserError(f"{name}: given twice")
        paths[name] = pathlib.Path(path)
    found = {name: runs.read(paths[name]) for name in known if name in paths}
    dimensional = found.pop(DIMENSIONAL) if DIMENSIONAL in found else None
    prints = {name: str(run.about.get("fingerprint", "")) for name, run in found.items()}
    if len(set(prints.values())) > 1:
        raise UserError(f"{', '.join(prints)}: scored on different prepared data")
    return found, dimensional


@answering
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m affect_jax.report.tables", description="The paper's tables from runs."
    )
    names = ", ".join((*published_scores.STRATEGIES, DIMENSIONAL))
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help=f"NAME is one of {names}")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the tables")
    given = parser.parse_args(arguments)
    found = tables(*read(given.runs))
    paths = write(found, given.out)
    print("\n".join(markdown(several) for several in found.values()))
    print("\n".join(f"written: {path}" for path in paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
