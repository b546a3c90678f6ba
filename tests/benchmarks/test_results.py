"""The table of runs in docs/results.md."""

from __future__ import annotations

from benchmarks import results


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
