"""Tables, ratios, result files and flags of `benchmarks.harness`."""

from __future__ import annotations

import json
import pathlib

import pytest

from benchmarks import harness

PAGE = """# Title
<!-- other: a -->
kept
<!-- end of other -->
<!-- mine: python -m benchmarks.mine -->
old
<!-- end of mine -->
The end.
"""


def parse(folder: pathlib.Path, *argv: str):
    flags = {"data_dir": ("/home/somebody/data", None), "faces": (100, 2), "sizes": ((1, 2), (1,))}
    return harness.parse_args("A benchmark.", ["--folder", str(folder), *argv], **flags)


def test_result_is_written_to_json_and_between_markers(tmp_path):
    (tmp_path / "README.md").write_text(PAGE)
    runs = {"ours": [3.0, 4.0], "peer": [1.0, 2.0]}
    for _ in range(2):  # the second time replaces the first
        harness.write_result(
            "mine",
            what="Faces/s",
            args=parse(tmp_path, "--note", "shared machine"),
            rows=[{"contender": "ours", "faces/s": 3.5}, {"contender": "peer", "faces/s": 1.5}],
            runs=runs,
            accelerator="a card",
        )
    result = json.loads((tmp_path / "results" / "mine.json").read_text())
    assert result["runs"] == runs and result["note"] == "shared machine"
    assert result["options"]["faces"] == 100 and "data_dir" not in result["options"]
    assert {"python", "numpy", "jax"} <= set(result["versions"]) and result["machine"][
        "accelerator"
    ]
    text = (tmp_path / "README.md").read_text()
    assert text.startswith(PAGE[: PAGE.index("\nold\n")]) and text.endswith("The end.\n")
    assert "old" not in text and text.count("| ours ") == 1
    assert "a card" in text and "shared machine" in text and result["date"][:10] in text


def test_rows_of_a_partial_run_replace_those_with_the_same_key(tmp_path):
    (tmp_path / "README.md").write_text(PAGE)
    for values in ({"a": 1, "b": 2}, {"b": 3, "c": 4}):
        harness.write_result(
            "mine",
            what="Faces/s",
            args=parse(tmp_path),
            rows=[{"network": name, "faces/s": value} for name, value in values.items()],
            runs=values,
            key=("network",),
        )
    result = json.loads((tmp_path / "results" / "mine.json").read_text())
    rows = [(row["network"], row["faces/s"]) for row in result["table"]]
    assert rows == [("a", 1), ("b", 3), ("c", 4)] and result["runs"] == dict(rows)
    assert len(result["earlier"]) == 1
    text = (tmp_path / "README.md").read_text()
    earlier = result["earlier"][0]
    assert f"did not measure: {earlier['machine']['cpu']}, {earlier['date'][:10]}" in text
    assert text.count("| b ") == 1 and "| a " in text


@pytest.mark.parametrize("page", [None, "", PAGE.replace("end of mine", "end"), PAGE + PAGE])
def test_page_without_markers_raises(tmp_path, page):
    if page is not None:
        (tmp_path / "README.md").write_text(page)
    with pytest.raises(SystemExit, match="markers of the table 'mine'"):
        harness.replace_table(tmp_path / "README.md", "mine", "text")
    assert page is None or (tmp_path / "README.md").read_text() == page


def test_table_numbers_are_rounded_and_right_aligned():
    rows = [{"what": "a", "faces/s": 12345.678}, {"what": "b", "faces/s": 0.012345, "extra": "1x"}]
    header, rule, row_a, row_b = harness.markdown_table(rows).splitlines()
    assert (
        row_a == "| a      |    12,346 |         |" and row_b == "| b      |    0.0123 |      1x |"
    )
    assert rule == "|:-------|----------:|--------:|" and len(header) == len(row_a)


def test_quick_changes_defaults_but_not_given_flags(tmp_path):
    assert parse(tmp_path).faces == 100
    quick = parse(tmp_path, "--quick")
    assert (quick.faces, quick.rounds, quick.folder) == (2, 1, tmp_path)
    assert parse(tmp_path, "--quick", "--faces", "7").faces == 7
    assert (quick.sizes, parse(tmp_path, "--sizes", "3", "4").sizes) == ((1,), [3, 4])
    args = harness.parse_args("", ["--quick"])
    assert args.folder is None  # a quick run writes no result


def test_flag_without_default_is_required(capsys):
    with pytest.raises(SystemExit):
        harness.parse_args("", [], data=(str, None, "folder"), runs=((str,), None))
    assert "--data, --runs" in capsys.readouterr().err


def test_summary_has_medians_and_ratios():
    runs = {"ours": [4.0, 9.0, 8.0], "peer": [2.0, 3.0, 4.0]}
    rows = harness.summarize(runs, "faces/s", {"to peer": "peer", "to a missing peer": None})
    assert rows[0] == {"contender": "ours", "faces/s": 8.0, "to peer": "2.00"}
    assert rows[1]["to peer"] == "1.00"


def test_contenders_run_in_turns_and_ratios_are_within_rounds():
    order: list[str] = []
    speeds = {"ours": iter([2.0, 200.0, 20.0]), "peer": iter([1.0, 100.0, 5.0])}

    def contender(name: str):
        def run() -> float:
            order.append(name)
            return next(speeds[name])

        return run

    runs = harness.run_interleaved({name: contender(name) for name in speeds}, 3)
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert harness.median_ratio(runs["ours"], runs["peer"]) == 2.0
    assert harness.fastest(runs, ["ours", "peer"]) == "ours" and harness.fastest(runs, []) is None
