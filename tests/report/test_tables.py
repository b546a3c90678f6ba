"""The paper's tables: all formats have all scores and name their datasets."""

from __future__ import annotations

import csv
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest

from affect_jax.core.errors import UserError
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import drop_contempt, write_predictions
from affect_jax.report import published_scores, runs, tables
from tests.report.conftest import create_many_classes, create_predictions, write_run
from tests.report.test_run_page import create_run, repeat_to_affectnet_counts

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"


@pytest.fixture(scope="module")
def created(workdir, tmp_path_factory):
    run = runs.read_run(workdir)
    other = runs.read_run(
        write_run(tmp_path_factory.mktemp("tables") / "b", create_predictions(skill=2))
    )
    return tables.create_tables({"weighted-loss": run, "imbalanced": run, "other": other}), run


ODD_NAMES = ("[a]", "*", "a|b_c\\d", "50 %", "x~#&{y}^$", "<i>")


@pytest.fixture(scope="module")
def odd():
    """Tables of classes whose names Markdown and LaTeX must escape."""
    table = dataclasses.replace(create_many_classes(60, 6), classes=ODD_NAMES)
    return tables.create_tables({"imbalanced": create_run(table), "[b_1] |": create_run(table)})


def numbers(text: str) -> list[str]:
    return re.findall(r"(?<![\w.])[−]?\d\.\d+", text.replace("$-$", "−"))


def test_table7_has_classes_as_rows_and_strategies_as_columns(created):
    table7 = created[0]["table7"]
    assert list(table7.rows) == [*created[1].predictions.classes, "macro"]
    assert [column.header for column in table7.columns] == [
        f"{strategy} {rule} {skew}"
        for strategy in ("imbalanced", "weighted-loss")
        for rule in ("top-1", "top-2")
        for skew in ("Orig", "Norm")
    ]


def test_markdown_and_latex_have_the_same_numbers(created):
    for table in created[0].values():
        expected = numbers(" ".join(text for row in tables.format_cells(table) for text in row[1:]))
        assert expected
        assert numbers(tables.to_markdown(table).split("\n\n")[1]) == expected
        assert numbers(tables.to_latex(table).split("\\midrule")[1]) == expected


def test_latex_headers_have_the_strategy_above_the_columns(created):
    text = tables.to_latex(created[0]["table7"])
    assert text.count(r"\shortstack{imbalanced \\ top-") == 4
    assert text.count(r"\shortstack{weighted-loss \\ top-") == 4
    for line in text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines():
        assert line.count("&") == 8 and line.endswith(r"\\")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(created, odd, tmp_path):
    body = "".join(map(tables.to_latex, (*created[0].values(), *odd.values())))
    text = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n"
    text += f"\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (tmp_path / "tables.tex").write_text(text, encoding="utf-8")
    process = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout[-2000:]
    assert "Overfull" not in process.stdout and (tmp_path / "tables.pdf").stat().st_size > 10_000


def test_names_are_escaped_in_markdown(odd):
    for name in ("table7", "scores"):
        lines = tables.to_markdown(odd[name]).split("\n\n")[1].splitlines()
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert widths == {len(odd[name].columns) + 2}
    assert r"\*" in tables.to_markdown(odd["table7"]) and "&lt;i&gt;" in tables.to_markdown(
        odd["table7"]
    )


def test_cells_have_scores_and_intervals(created):
    named_tables, run = created
    first_table = named_tables["table7"]
    rows = tables.format_cells(first_table)
    name = "categorical.top1.original.f1.fear"
    place = next(i for i, row in enumerate(rows) if row[0] == "fear")
    assert rows[place][1] == f"{run.scores.values[name]:.3f}"
    low, high = run.scores.intervals[name]
    assert rows[place + 1][:2] == [tables.INTERVAL, f"{low:.3f} to {high:.3f}"]


def test_csv_lines_name_source_and_data(created):
    named_tables, run = created
    for table in (
        named_tables["table7"],
        named_tables["scores"]._replace(columns=named_tables["scores"].columns[:2]),
    ):
        for line in csv.DictReader(tables.to_csv(table).splitlines()):
            name = line["score"]
            assert line["data"] == "rendered faces (synthetic_faces)"
            assert line["source"] in ("imbalanced", "weighted-loss") and line["p"] == ""
            assert float(line["value"]) == run.scores.values[name]
            assert (float(line["low"]), float(line["high"])) == run.scores.intervals[name]
            if name in run.scores.counts:
                assert (int(line["mean over"]), int(line["of"])) == run.scores.counts[name]


def test_differences_have_intervals_before_p_values(created):
    named_tables, run = created
    table = named_tables["scores"]
    assert [column.header for column in table.columns] == [
        "weighted-loss", "imbalanced", "other",
        "imbalanced − weighted-loss", "other − weighted-loss",
    ]  # fmt: skip
    rows = tables.format_cells(table)
    first = "Accuracy · top-1, Orig"
    assert [row[0] for row in rows[:3]] == [first, tables.INTERVAL, tables.P_VALUE]
    name = "categorical.top1.original.accuracy"
    change = table.columns[-1].scores
    low, high = change.intervals[name]
    assert rows[0][-2:] == ["0.000", f"+{change.values[name]:.3f}"]
    assert rows[1][-1] == f"{low:.3f} to {high:.3f}"
    assert rows[2][1:] == ["", "", "", "p = 1.000", "p < 0.001"]
    line = [*csv.DictReader(tables.to_csv(table).splitlines())][-len(change.values) :]
    assert {line["score"]: float(line["p"]) for line in line if line["p"]}[name] < 0.001


def test_protocols_have_source_and_faces(created):
    table, run = created[0]["protocols"], created[1]
    title = "7 classes, output of contempt dropped"
    protocol = run.protocols[title]
    header = f"{title} (EmotiEffLib; {protocol['faces']} faces): accuracy"
    row = next(row for row in tables.format_cells(table) if row[0] == header)
    assert row[1:3] == [f"{protocol['scores']['accuracy']:.3f}"] * 2 and len(row) == 4


def test_systems_are_scored_on_common_faces(tmp_path, workdir):
    """A run and a file with other faces, in another order, and with predicted classes only."""
    table = create_predictions(skill=2)
    foreign = table.select(np.arange(239, 40, -1))
    foreign = dataclasses.replace(
        foreign, is_hard=True, valence_arousal_predicted=None, action_units_predicted=None
    )
    write_predictions(foreign, tmp_path / "foreign.csv")
    systems = {"a_b": runs.read_run(workdir), "c": runs.read_run(tmp_path / "foreign.csv")}
    scores = tables.create_tables(systems)["scores"]
    ours, theirs, change = (column.scores.values for column in scores.columns)
    name = "categorical.top1.original.accuracy"
    assert "199 faces" in scores.title and change[name] == pytest.approx(theirs[name] - ours[name])
    common = systems["a_b"].predictions.select(np.arange(41, 240))
    assert ours[name] == protocol.score(common, draws=1).values[name]
    text = tables.to_latex(scores)
    assert (
        r"\shortstack{a\_b}" in text and r"\shortstack{c \\ $-$ a\_b}" in text and " none " in text
    )


def test_eight_classes_are_compared_with_seven_without_contempt():
    eight = create_predictions()
    seven = drop_contempt(create_predictions(skill=2))
    scores = tables.create_tables({"a": create_run(eight), "b": create_run(seven)})["scores"]
    assert [column.header for column in scores.columns[:2]] == ["a (contempt dropped)", "b"]
    faces = (eight.expression >= 0) & (eight.expression < 7)
    predicted = eight.probabilities[faces, :7].argmax(axis=1)
    expected = np.mean(predicted == eight.expression[faces])
    name = "categorical.top1.original.accuracy"
    assert scores.columns[0].scores.values[name] == pytest.approx(expected)
    assert scores.columns[0].scores.p_values == {} and scores.columns[2].scores.p_values[name] < 0.1


def test_seven_classes_are_compared_with_other_systems_of_eight():
    """With valence and arousal only, and with predicted classes, of which none is contempt."""
    eight, seven = create_predictions(skill=2), drop_contempt(create_predictions())
    axes = dataclasses.replace(eight, probabilities=None, action_units_predicted=None)
    hard = dataclasses.replace(eight, is_hard=True, probabilities=np.eye(8)[eight.expression % 7])
    systems = {"a": seven, "b": axes, "c": hard}
    scores = tables.create_tables({name: create_run(x) for name, x in systems.items()})["scores"]
    assert [column.header for column in scores.columns[:3]] == ["a", "b", "c (contempt dropped)"]
    *_, b, c = (column.scores.values for column in scores.columns)
    name = "categorical.top1.original.accuracy"
    assert c[name] == 1 - scores.columns[0].scores.values[name]
    assert "dimensional.valence.ccc" in b and name not in b
    hard.probabilities[0] = np.eye(8)[7]
    with pytest.raises(UserError, match="^c: needs probabilities to leave out contempt$"):
        tables.create_tables({"a": create_run(seven), "c": create_run(hard)})


def test_csv_has_no_formulas():
    run = create_run(create_many_classes(60, 3))
    named = tables.create_tables({"-1+1": run, "imbalanced": run})
    lines = [*csv.DictReader(tables.to_csv(named["scores"]).splitlines())]
    assert {line["source"] for line in lines} == {"'-1+1", "imbalanced"}
    lines = [*csv.DictReader(tables.to_csv(named["table7"]).splitlines())]
    assert {line["row"] for line in lines} == {"'=$_0^x$", "'=$_1^x$", "'=$_2^x$", "macro"}


def test_no_published_scores_on_other_data(created):
    for table in created[0].values():
        assert "NOT AffectNet" in table.title
        assert "paper" not in tables.to_markdown(table) + tables.to_csv(table)


def test_published_scores_are_below_the_runs_on_affectnet():
    run = create_run(repeat_to_affectnet_counts(create_predictions()))
    first_table = tables.create_tables({"weighted-loss": run})["table7"]
    assert "NOT" not in first_table.title
    rows = tables.format_cells(first_table)
    place = next(i for i, row in enumerate(rows) if row[0] == "contempt")
    assert [row[0] for row in rows[place : place + 2]] == [
        "contempt",
        f"paper, {published_scores.TEST_SPLIT}",
    ]  # no interval
    assert rows[place + 1][1:] == ["0.27", "0.59", "0.58", "0.79"]
    expected = published_scores.select_published(run)["categorical.top1.original.f1.macro"]
    assert rows[-1][1] == f"{expected:.2f}"
    lines = [*csv.DictReader(tables.to_csv(first_table).splitlines())]
    assert [line["source"] for line in lines] == ["weighted-loss", "paper"] * 36
    assert lines[1]["data"] == f"AffectNet, {published_scores.TEST_SPLIT}"
    assert lines[2]["data"] == "AffectNet"


def test_systems_without_common_faces_raise():
    table = create_predictions(40)
    other = dataclasses.replace(table, id=np.char.add("x", table.id))
    with pytest.raises(UserError, match="no id is in all: a, b"):
        tables.create_tables({"a": create_run(table), "b": create_run(other)})


def test_published_f1_is_not_shown_for_seven_classes():
    seven = dataclasses.replace(
        (faces := repeat_to_affectnet_counts(create_predictions())),
        classes=faces.classes[:7],
        probabilities=faces.probabilities[:, :7] / faces.probabilities[:, :7].sum(1, keepdims=True),
        expression=np.where(faces.expression < 7, faces.expression, -1),
    )
    run = create_run(seven)
    assert not published_scores.why_not_comparable(run)
    first_table = tables.create_tables({"weighted-loss": run})["table7"]
    assert len(first_table.rows) == 8 and "paper" not in tables.to_csv(first_table)


def test_partial_mean_has_a_count():
    faces = dataclasses.replace(create_predictions(), probabilities=np.tile(np.eye(8)[1], (240, 1)))
    table = tables.create_tables({"weighted-loss": create_run(faces)})["table7"]
    table = table._replace(rows={"precision": "precision.macro"}, columns=table.columns[:1])
    assert tables.format_cells(table)[0][1].endswith(" over 1 of 8")


def test_command_writes_all_files(workdir, tmp_path, capsys):
    names = ["up-sampling", "down-sampling", "dimensional"]
    out = tmp_path / "tables"
    assert tables.main([*(f"{name}={workdir}" for name in names), "--out", str(out)]) == 0
    written = sorted(path.name for path in out.iterdir())
    stems = ("protocols", "scores", "table7")
    assert written == [f"{stem}{end}" for stem in stems for end in (".csv", ".md", ".tex")]
    assert (out / "table7.md").read_text() in capsys.readouterr().out
    assert r"synthetic\_faces" in (out / "table7.tex").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["=x"], "must be NAME=RUN, each name once"),
        (["imbalanced"], "must be NAME=RUN"),
        (["imbalanced=nowhere"], "no scores.json"),
    ],
)
def test_invalid_arguments_raise_one_line(arguments, message, tmp_path, capsys):
    assert tables.main([*arguments, "--out", str(tmp_path)]) == 2
    error_text = capsys.readouterr().err
    assert message in error_text and error_text.count("\n") == 1


def test_table7_script_runs_studies_and_writes_tables(tmp_path):
    """Uses a stub of the commands."""
    (tmp_path / "launch").mkdir()
    shutil.copy(LAUNCH / "table7.sh", tmp_path / "launch")
    (tmp_path / "launch" / "environment.sh").write_text("")
    (tmp_path / "python").write_text('#!/usr/bin/env bash\necho "$*"\n')
    (tmp_path / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CAP": "7"}
    environment |= {"RUNS": "R", "MODELS": "downsampling weighted dimensional"}
    command = [str(tmp_path / "launch/table7.sh"), "--config.batch_size=3", "SEEDS=0 1"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    calls = [line.removeprefix("-m affect_jax.") for line in process.stdout.splitlines()]
    assert calls[0] == (
        "study --config=configs/alexnet_downsampling.py:affectnet --workdir=R/downsampling "
        "--seeds=0,1 --config.batch_size=3 --config.sampling.cap=7"
    )
    assert "cap" not in calls[1] and calls[3:] == [
        "report.tables --out=R/tables down-sampling=R/downsampling weighted-loss=R/weighted "
        "dimensional=R/dimensional",
        "report R/downsampling R/weighted --out=R/comparison.html",
    ]
