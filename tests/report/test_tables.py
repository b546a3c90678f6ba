"""The paper's tables: every number in every format, none without its data set."""

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
from affect_jax.report import published_scores, runs, tables
from tests.report.conftest import table, write_run
from tests.report.test_page import of, released

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"


@pytest.fixture(scope="module")
def found(workdir):
    run = runs.read(workdir)
    return tables.tables({"imbalanced": run, "weighted-loss": run}, run), run


def numbers(text: str) -> list[str]:
    return re.findall(r"(?<![\w.])[−]?\d\.\d+", text.replace("$-$", "−"))


def test_table7_has_rows_of_classes_and_columns_of_strategies(found):
    ours, papers = found[0]["table7"]
    assert ours.rows == [*found[1].table.classes, "macro"]
    assert [column.whole_head for column in ours.columns] == [
        f"{strategy} {rule} {skew}"
        for strategy in ("imbalanced", "weighted-loss")
        for rule in ("top-1", "top-2")
        for skew in ("Orig", "Norm")
    ]
    assert len(papers.columns) == 16


def test_all_formats_have_the_same_numbers(found):
    for several in found[0].values():
        for one in several:
            cells = [text for row in tables.cells(one) for text in row[1:]]
            wanted = numbers(" ".join(cells))
            assert wanted
            for convert in (tables.markdown, tables.latex):
                body = convert([one]).split("\n\n" if convert is tables.markdown else "\\midrule")[
                    1
                ]
                assert numbers(body) == wanted


def test_latex_has_the_strategies_above_their_columns(found):
    ours, papers = found[0]["table7"]
    text = tables.latex([ours])
    assert r" & \multicolumn{4}{c}{imbalanced} & \multicolumn{4}{c}{weighted-loss} \\" in text
    assert r"\cmidrule(lr){2-5} \cmidrule(lr){6-9}" in text
    assert tables.latex([papers]).count(r"\multicolumn{4}{c}") == 4
    assert r"\multicolumn" not in tables.latex(found[0]["dimensional"])
    for line in text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines():
        assert line.count("&") == 8 and line.endswith(r"\\")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_latex_compiles(found, tmp_path):
    body = "".join(tables.latex(several) for several in found[0].values())
    text = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n"
    text += f"\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (tmp_path / "tables.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout and (tmp_path / "tables.pdf").stat().st_size > 10_000


def test_cells_are_the_scores_with_their_intervals(found):
    tables_, run = found
    one = tables_["table7"][0]
    rows = tables.cells(one)
    name = "categorical.top1.original.f1.fear"
    place = next(i for i, row in enumerate(rows) if row[0] == "fear")
    assert rows[place][1] == f"{run.scores.values[name]:.3f}"
    low, high = run.scores.intervals[name]
    assert rows[place + 1][:2] == [tables.INTERVAL, f"{low:.3f} to {high:.3f}"]


def test_every_line_of_the_csv_says_whose_number_it_is(found):
    tables_, run = found
    for several in tables_.values():
        for line in csv.DictReader(tables.comma_separated(several).splitlines()):
            if line["source"] == "paper":
                assert line["data"].startswith("AffectNet, the ") and line["low"] == ""
                own = "test split" if line["score"].startswith("categorical") else "validation"
                assert own in line["data"]
            else:
                assert line["data"] == "rendered faces (synthetic_faces)"
                assert float(line["value"]) == run.scores.values[line["score"]]
                assert (float(line["low"]), float(line["high"])) == run.scores.intervals[
                    line["score"]
                ]
                if line["score"] in run.scores.counts:
                    counted = (int(line["mean over"]), int(line["of"]))
                    assert counted == run.scores.counts[line["score"]]


def test_on_other_data_the_paper_has_a_table_of_its_own(found):
    for name, several in found[0].items():
        text = tables.markdown(several)
        ours = text.split("**F1 of each class: the paper")[0].split("**Valence and arousal: ")[0]
        assert "NOT AffectNet" in ours and "paper, " not in ours
        splits = {"table7": published_scores.TEST, "dimensional": published_scores.VALIDATION}
        assert name not in splits or f"AffectNet, {splits[name]}" in text


def test_on_affectnet_the_papers_numbers_stand_below():
    run = of(released(table()))
    (one,) = tables.tables({"weighted-loss": run}, None)["table7"]
    assert "NOT" not in one.title
    rows = tables.cells(one)
    place = next(i for i, row in enumerate(rows) if row[0] == "contempt")
    assert [row[0] for row in rows[place : place + 2]] == [
        "contempt",
        f"paper, {published_scores.TEST}",
    ]  # no interval
    assert rows[place + 1][1:] == ["0.27", "0.59", "0.58", "0.79"]
    wanted = published_scores.categorical("weighted-loss")["categorical.top1.original.f1.macro"]
    assert rows[-1][1] == f"{wanted:.2f}"


def test_one_run_on_other_data_is_enough_to_say_so():
    """The same faces, scored once under AffectNet's name and once under none."""
    faces = released(table())
    named, unnamed = of(faces), of(faces, "")
    for several in tables.tables({"imbalanced": named, "weighted-loss": unnamed}, None).values():
        assert "Data: data of unknown origin" in several[0].title
        assert not any(column.papers for column in several[0].columns)


def test_strategies_are_scored_on_the_same_faces():
    with pytest.raises(UserError, match="compared on the same faces: 4000 and 240"):
        tables.tables({"imbalanced": of(released(table())), "weighted-loss": of(table())}, None)


def test_the_papers_f1_are_no_peer_of_seven_classes():
    seven = dataclasses.replace(
        (faces := released(table())),
        classes=faces.classes[:7],
        probabilities=faces.probabilities[:, :7] / faces.probabilities[:, :7].sum(1, keepdims=True),
        expression=np.where(faces.expression < 7, faces.expression, -1),
    )
    run = of(seven)
    assert not published_scores.why_not_comparable(run.about, run.table)
    (one,) = tables.tables({"weighted-loss": run}, None)["table7"]
    assert len(one.rows) == 8 and not any(column.papers for column in one.columns)


def test_a_mean_over_fewer_classes_says_so():
    faces = dataclasses.replace(table(), probabilities=np.tile(np.eye(8)[1], (240, 1)))
    one = tables.tables({"weighted-loss": of(faces)}, None)["strategies"][0]
    rows = tables.cells(one)
    assert [row[0] for row in rows].count(tables.FEWER) == 0  # all these are defined
    column = dataclasses.replace(
        one.columns[0], names=["categorical.top1.original.precision.macro"]
    )
    rows = tables.cells(dataclasses.replace(one, rows=["precision"], columns=[column]))
    assert rows[-1] == [tables.FEWER, "1 of 8"]


@pytest.mark.parametrize("name, other", [("weighted-loss", "axes"), ("dimensional", "classes")])
def test_a_run_without_the_scores_of_its_table_is_one_line(name, other, tmp_path, capsys):
    whole = table(40)
    axes = ("valence_arousal", "valence_arousal_predicted")
    absent = ("probabilities", "classes") if other == "axes" else axes
    given = dataclasses.replace(whole, **{key: () if key == "classes" else None for key in absent})
    run = write_run(tmp_path / "run", given)
    assert tables.main([f"{name}={run}", "--out", str(tmp_path / "out")]) == 2
    assert "to show" in capsys.readouterr().err


def test_the_command_writes_all_files(workdir, tmp_path, capsys):
    names = ["up-sampling", "down-sampling", "dimensional"]
    out = tmp_path / "tables"
    assert tables.main([*(f"{name}={workdir}" for name in names), "--out", str(out)]) == 0
    written = sorted(path.name for path in out.iterdir())
    stems = ("dimensional", "strategies", "table7")
    assert written == [f"{stem}{end}" for stem in stems for end in (".csv", ".md", ".tex")]
    assert (out / "table7.md").read_text() in capsys.readouterr().out
    assert r"synthetic\_faces" in (out / "table7.tex").read_text()


@pytest.mark.parametrize(
    "given, message",
    [
        (["weighted=x"], "did you mean 'weighted-loss'"),
        (["imbalanced"], "must be NAME=RUN"),
        (["imbalanced=x", "imbalanced=y"], "given twice"),
        (["imbalanced=nowhere"], "no scores.json"),
    ],
)
def test_wrong_arguments_are_one_line(given, message, tmp_path, capsys):
    assert tables.main([*given, "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1


def test_strategies_on_different_data_are_refused(workdir, tmp_path):
    other = write_run(tmp_path / "other", table(60))
    path = other / "evaluation/validation/scores.json"
    path.write_text(path.read_text().replace("0123456789abcdef" * 4, "f" * 64))
    with pytest.raises(UserError, match="different prepared data"):
        tables.read([f"imbalanced={workdir}", f"up-sampling={other}"])


STAND_IN = """#!/usr/bin/env bash
echo "$*" >>"$RUNS.calls"
for word in "$@"; do case $word in --workdir=*) workdir=${word#*=} ;; esac; done
case $* in
  *--mode=evaluate*) mkdir -p "$workdir/evaluation/validation"
    touch -d "+1 hour" "$workdir/evaluation/validation/report.html" ;;
  *affect_jax.main*) mkdir -p "$workdir/checkpoints" ;;
esac
"""


def test_table7_trains_what_is_not_done_and_makes_the_tables(tmp_path):
    """With a stand-in for the program."""
    (tmp_path / "launch").mkdir()
    shutil.copy(LAUNCH / "table7.sh", tmp_path / "launch")
    (tmp_path / "launch" / "environment.sh").write_text("")
    (tmp_path / "python").write_text(STAND_IN)
    (tmp_path / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CAP": "7"}
    environment |= {"RUNS": str(tmp_path / "runs"), "MODELS": "downsampling weighted dimensional"}
    command = [str(tmp_path / "launch/table7.sh"), "--config.seed=3", "--data=synthetic_faces"]

    def calls() -> list[str]:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        text = (tmp_path / "runs.calls").read_text().replace(f"{tmp_path}/runs", "R")
        (tmp_path / "runs.calls").unlink()
        return [line.removeprefix("-m affect_jax.") for line in text.splitlines()]

    first = calls()
    assert first[0] == (
        "main --config=configs/alexnet_downsampling.py:synthetic_faces --workdir=R/downsampling "
        "--config.seed=3 --config.sampling.cap=7"
    )
    assert first[1] == (
        "main --mode=evaluate --workdir=R/downsampling --checkpoint=last --split=validation"
    )
    assert "cap" not in first[2] and len(first) == 3 * 2 + 2
    folders = {
        m: f"R/{m}/evaluation/validation" for m in ("downsampling", "weighted", "dimensional")
    }
    assert first[-2] == (
        f"report.tables --out=R/tables down-sampling={folders['downsampling']} "
        f"weighted-loss={folders['weighted']} dimensional={folders['dimensional']}"
    )
    compared = f"{folders['downsampling']} {folders['weighted']}"
    assert first[-1] == f"report {compared} --out=R/comparison.html"
    assert calls() == first[-2:]  # all done
    (tmp_path / "runs/weighted/evaluation/validation/report.html").unlink()  # killed before it
    assert [call.split()[0] for call in calls()] == ["main", "main", "report.tables", "report"]
