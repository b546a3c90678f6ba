"""What the README's table of runs says of their time."""

from __future__ import annotations

import pytest

from benchmarks import results


def lines(*times: float) -> list[dict]:
    """A log whose first line, of step 50, was written at the first of the times."""
    first = {"step": 50, "time": times[0], "train.images_per_second": 10.0}
    return [first, *({"step": 60, "time": time} for time in times[1:])]


def test_what_came_before_the_first_line_counts():
    """50 steps of 4 faces at 10 a second are 20 seconds."""
    assert results.seconds_of(lines(100, 110, 120, 130), batch_size=4) == pytest.approx(50)


def test_a_pause_does_not_count():
    """Hours later the same command went on."""
    assert results.seconds_of(lines(100, 110, 120, 9_000, 9_010), batch_size=4) == pytest.approx(50)


def test_the_rows_of_other_runs_stay(tmp_path, monkeypatch, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("before\n{}\n{}\nafter\n".format(*results.MARKERS))

    def row(config: str, accuracy: str) -> dict[str, str]:
        network = {"network": "alexnet, 112 px", "accuracy": accuracy, "unit AUC": ""}
        return {"config": f"`{config}`", "data": "rendered faces"} | network

    def fill(**runs: str) -> str:
        monkeypatch.setattr(results, "row_of", lambda run: row(run.name, runs[run.name]))
        monkeypatch.setattr("sys.argv", ["results", *runs, "--readme", str(readme)])
        results.main()
        return readme.read_text()

    fill(alexnet_weighted="0.1", resnet18_joint="0.2")
    text = fill(resnet18_joint="0.3")
    found = {row["config"]: row for row in results.rows_in(text)}
    assert found == {
        "`alexnet_weighted`": row("alexnet_weighted", "0.1"),
        "`resnet18_joint`": row("resnet18_joint", "0.3"),
    }
    assert text.count("needs AffectNet") >= 5 and "`resnet18_facs`" in text
    assert text.startswith("before\n") and text.endswith("\nafter\n")
