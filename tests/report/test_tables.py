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
from affect_jax.report import published_scores, runs, tables
from tests.report.conftest import create_many_classes, create_predictions, write_run
from tests.report.test_run_page import create_run, repeat_to_affectnet_counts

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"


@pytest.fixture(scope="module")
def created(workdir):
    run = runs.read_run(workdir)
    return tables.create_tables({"weighted-loss": run, "imbalanced": run, "dimensional": run}), run


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
def test_latex_compiles(created, tmp_path):
    body = "".join(map(tables.to_latex, created[0].values()))
    text = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n"
    text += f"\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (tmp_path / "tables.tex").write_text(text, encoding="utf-8")
    process = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout[-2000:]
    assert "Overfull" not in process.stdout and (tmp_path / "tables.pdf").stat().st_size > 10_000


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
    for table in named_tables.values():
        for line in csv.DictReader(tables.to_csv(table).splitlines()):
            name = line["score"]
            assert line["data"] == "rendered faces (synthetic_faces)" and line["source"] == "fair"
            assert float(line["value"]) == run.scores.values[name]
            assert (float(line["low"]), float(line["high"])) == run.scores.intervals[name]
            if name in run.scores.counts:
                assert (int(line["mean over"]), int(line["of"])) == run.scores.counts[name]


def test_csv_has_no_formulas():
    run = dataclasses.replace(create_run(create_many_classes(60, 3)), name="-1+1")
    lines = [
        *csv.DictReader(
            tables.to_csv(tables.create_tables({"imbalanced": run})["table7"]).splitlines()
        )
    ]
    assert {line["source"] for line in lines} == {"'-1+1"}
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
    assert [line["source"] for line in lines] == ["mine", "paper"] * 36
    assert lines[1]["data"] == f"AffectNet, {published_scores.TEST_SPLIT}"
    assert lines[2]["data"] == "AffectNet"


def test_strategies_must_have_the_same_faces():
    with pytest.raises(UserError, match="the ids of the 4,000 and 240 faces differ"):
        tables.create_tables(
            {
                "imbalanced": create_run(repeat_to_affectnet_counts(create_predictions())),
                "weighted-loss": create_run(create_predictions()),
            }
        )


def test_published_f1_is_not_shown_for_seven_classes():
    seven = dataclasses.replace(
        (faces := repeat_to_affectnet_counts(create_predictions())),
        classes=faces.classes[:7],
        probabilities=faces.probabilities[:, :7] / faces.probabilities[:, :7].sum(1, keepdims=True),
        expression=np.where(faces.expression < 7, faces.expression, -1),
    )
    run = create_run(seven)
    assert not published_scores.why_not_comparable(run.metadata, run.predictions)
    first_table = tables.create_tables({"weighted-loss": run})["table7"]
    assert len(first_table.rows) == 8 and not any(
        column.published for column in first_table.columns
    )


def test_partial_mean_has_a_count():
    faces = dataclasses.replace(create_predictions(), probabilities=np.tile(np.eye(8)[1], (240, 1)))
    table = tables.create_tables({"weighted-loss": create_run(faces)})["strategies"]
    table = table._replace(rows={"precision": "precision.macro"}, columns=table.columns[:1])
    assert tables.format_cells(table)[0][1].endswith(" over 1 of 8")


@pytest.mark.parametrize("name, available", [("weighted-loss", "axes"), ("dimensional", "classes")])
def test_run_without_required_scores_raises_one_line(name, available, tmp_path, capsys):
    whole = create_predictions(40)
    axes = ("valence_arousal", "valence_arousal_predicted")
    absent = ("probabilities", "classes") if available == "axes" else axes
    predictions = dataclasses.replace(
        whole, **{key: () if key == "classes" else None for key in absent}
    )
    run = write_run(tmp_path / "run", predictions)
    assert tables.main([f"{name}={run}", "--out", str(tmp_path / "out")]) == 2
    assert "the run has no" in capsys.readouterr().err


def test_command_writes_all_files(workdir, tmp_path, capsys):
    names = ["up-sampling", "down-sampling", "dimensional"]
    out = tmp_path / "tables"
    assert tables.main([*(f"{name}={workdir}" for name in names), "--out", str(out)]) == 0
    written = sorted(path.name for path in out.iterdir())
    stems = ("dimensional", "strategies", "table7")
    assert written == [f"{stem}{end}" for stem in stems for end in (".csv", ".md", ".tex")]
    assert (out / "table7.md").read_text() in capsys.readouterr().out
    assert r"synthetic\_faces" in (out / "table7.tex").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["weighted=x"], "did you mean 'weighted-loss'"),
        (["imbalanced"], "must be NAME=RUN"),
        (["imbalanced=nowhere"], "no scores.json"),
    ],
)
def test_invalid_arguments_raise_one_line(arguments, message, tmp_path, capsys):
    assert tables.main([*arguments, "--out", str(tmp_path)]) == 2
    error_text = capsys.readouterr().err
    assert message in error_text and error_text.count("\n") == 1


STUB_COMMAND = """#!/usr/bin/env bash
echo "$*" >>"$RUNS.calls"
for word in "$@"; do case $word in --workdir=*) workdir=${word#*=} ;; esac; done
case $* in
  *--mode=evaluate*) mkdir -p "$workdir/evaluation/validation"
    touch -d "+1 hour" "$workdir/evaluation/validation/report.html" ;;
  *affect_jax.main*) mkdir -p "$workdir/checkpoints" ;;
esac
"""


def test_table7_script_runs_missing_steps_and_writes_tables(tmp_path):
    """Uses a stub of the command."""
    (tmp_path / "launch").mkdir()
    shutil.copy(LAUNCH / "table7.sh", tmp_path / "launch")
    (tmp_path / "launch" / "environment.sh").write_text("")
    (tmp_path / "python").write_text(STUB_COMMAND)
    (tmp_path / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CAP": "7"}
    environment |= {"RUNS": str(tmp_path / "runs"), "MODELS": "downsampling weighted dimensional"}
    command = [str(tmp_path / "launch/table7.sh"), "--config.seed=3", "--data=synthetic_faces"]

    def calls() -> list[str]:
        process = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60
        )
        assert process.returncode == 0, process.stderr
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
    assert calls() == first[-2:]  # all steps are done
    (
        tmp_path / "runs/weighted/evaluation/validation/report.html"
    ).unlink()  # killed before it was written
    assert [call.split()[0] for call in calls()] == ["main", "main", "report.tables", "report"]
