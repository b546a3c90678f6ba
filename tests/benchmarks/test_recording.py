"""Tables stand between their markers, ratios are of pairs, and what was measured can be read."""

from __future__ import annotations

import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabulate import tabulate

from benchmarks import recording

PAGE = """# Title
<!-- other: a -->
kept
<!-- end of other -->
<!-- mine: python -m benchmarks.mine -->
old
<!-- end of mine -->
The end.
"""


def options_of(folder: pathlib.Path, *arguments: str):
    found = recording.parser("A benchmark.")
    found.add_argument("--data_dir", default="/home/somebody/data")
    found.add_argument("--faces", type=int, default=100)
    return recording.parse(found, ["--folder", str(folder), *arguments], {"faces": 2})


def test_a_result_is_kept_in_its_file_and_between_its_markers(tmp_path):
    (tmp_path / "README.md").write_text(PAGE)
    runs = {"ours": [3.0, 4.0], "peer": [1.0, 2.0]}
    for _ in range(2):  # the second time replaces the first
        recording.keep(
            "mine",
            what="Faces/s",
            options=options_of(tmp_path, "--note", "shared machine"),
            rows=[{"contender": "ours", "faces/s": 3.5}, {"contender": "peer", "faces/s": 1.5}],
            runs=runs,
            packages=("numpy", "no such package"),
            accelerator="a card",
        )
    kept = json.loads((tmp_path / "results" / "mine.json").read_text())
    assert kept["runs"] == runs and kept["note"] == "shared machine"
    assert kept["options"]["faces"] == 100 and "data_dir" not in kept["options"]
    assert set(kept["versions"]) == {"python", "numpy"} and kept["machine"]["accelerator"]
    text = (tmp_path / "README.md").read_text()
    assert text.startswith(PAGE[: PAGE.index("\nold\n")]) and text.endswith("The end.\n")
    assert "old" not in text and text.count("| ours ") == 1
    assert "a card" in text and "shared machine" in text and kept["date"][:10] in text


@pytest.mark.parametrize("page", [None, "", PAGE.replace("end of mine", "end"), PAGE + PAGE])
def test_a_page_without_the_markers_is_told(tmp_path, page):
    if page is not None:
        (tmp_path / "README.md").write_text(page)
    with pytest.raises(SystemExit, match="markers of the table 'mine'"):
        recording.replace_table(tmp_path / "README.md", "mine", "text")
    assert page is None or (tmp_path / "README.md").read_text() == page


CELLS = st.text("abc-. ", min_size=1, max_size=5).map(lambda text: f"x{text}x")


@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4))
def test_a_table_is_that_of_tabulate(rows):
    """Of texts, whose columns are at the left; a peer for the frame."""
    named: list[dict[str, str]] = [{"first": first, "second": second} for first, second in rows]
    expected = tabulate(named, headers="keys", tablefmt="github", disable_numparse=True)

    def cells(text: str) -> list[list[str]]:
        lines = text.splitlines()
        del lines[1]  # the rule; tabulate's may be wider
        return [[cell.strip() for cell in line.split("|")] for line in lines]

    assert cells(recording.table(named)) == cells(expected)


def test_numbers_of_a_table_are_short_and_at_the_right():
    rows = [{"what": "a", "faces/s": 12345.678}, {"what": "b", "faces/s": 0.012345, "extra": "1x"}]
    first, rule, one, two = recording.table(rows).splitlines()
    assert one == "| a    |  12,346 |       |" and two == "| b    |  0.0123 |    1x |"
    assert rule == "|------|--------:|------:|" and len(first) == len(one)


def test_quick_gives_small_numbers_unless_others_are_asked_for(tmp_path):
    assert options_of(tmp_path).faces == 100
    quick = options_of(tmp_path, "--quick")
    assert (quick.faces, quick.rounds, quick.folder) == (2, 1, tmp_path)
    assert options_of(tmp_path, "--quick", "--faces", "7").faces == 7
    found = recording.parse(recording.parser(""), ["--quick"], {})
    assert found.folder is None  # a quick run is no result


def test_contenders_take_turns_and_ratios_are_of_the_same_round():
    order: list[str] = []
    speeds = {"ours": iter([2.0, 200.0, 20.0]), "peer": iter([1.0, 100.0, 5.0])}

    def contender(name: str):
        def run() -> float:
            order.append(name)
            return next(speeds[name])

        return run

    runs = recording.take_turns({name: contender(name) for name in speeds}, 3)
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert recording.ratio(runs["ours"], runs["peer"]) == 2.0
    assert recording.best(runs, ["ours", "peer"]) == "ours" and recording.best(runs, []) is None
