"""The table of runs in docs/results.md."""

from __future__ import annotations

import pytest

from benchmarks import results


def log_lines(*times: float) -> list[dict]:
    """Returns a log whose first line, of step 50, has the first of the times."""
    first = {"step": 50, "time": times[0], "train.images_per_second": 10.0}
    return [first, *({"step": 60, "time": time} for time in times[1:])]


def test_time_before_the_first_log_line_counts():
    """50 steps of 4 faces at 10 a second are 20 seconds."""
    assert results.run_seconds(log_lines(100, 110, 120, 130), batch_size=4) == pytest.approx(50)


def test_pause_before_resuming_does_not_count():
    """The run is resumed hours later."""
    assert results.run_seconds(
        log_lines(100, 110, 120, 9_000, 9_010), batch_size=4
    ) == pytest.approx(50)


def test_rows_of_other_runs_stay(tmp_path, monkeypatch, capsys):
    page = tmp_path / "results.md"
    page.write_text("before\n{}\n{}\nafter\n".format(*results.MARKERS))

    def row(config: str, accuracy: str) -> dict[str, str]:
        network = {"network": "alexnet, 112 px", "accuracy": accuracy, "unit AUC": ""}
        return {"config": f"`{config}`", "data": "rendered faces"} | network

    def fill(**runs: str) -> str:
        monkeypatch.setattr(results, "create_row", lambda run: row(run.name, runs[run.name]))
        monkeypatch.setattr("sys.argv", ["results", *runs, "--readme", str(page)])
        results.main()
        return page.read_text()

    fill(alexnet_weighted="0.1", resnet18_joint="0.2")
    text = fill(resnet18_joint="0.3")
    rows = {row["config"]: row for row in results.parse_rows(text)}
    assert rows == {
        "`alexnet_weighted`": row("alexnet_weighted", "0.1"),
        "`resnet18_joint`": row("resnet18_joint", "0.3"),
    }
    assert text.count("needs AffectNet") >= 5 and "`resnet18_facs`" in text
    assert text.startswith("before\n") and text.endswith("\nafter\n")
