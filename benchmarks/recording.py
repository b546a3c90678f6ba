"""What all benchmarks do alike: take turns, compare runs of a round, keep what was measured.

A figure of a busy machine says little; the ratio of two that were measured one after the other
says more. So contenders take turns, and a ratio is the median of the ratios of the rounds.

`keep` writes `results/NAME.json` (machine, versions, date, every run of every contender) and puts
a table between two markers of `README.md`:

    <!-- NAME: python -m benchmarks.NAME -->
    <!-- end of NAME -->

This module needs nothing but Python, as `benchmarks.gpu` runs where little is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from benchmarks.machine import machine

FOLDER = pathlib.Path(__file__).resolve().parent
# Options that tell of one machine alone, or that a benchmark gives to processes of its own.
PRIVATE = r"folder|manual_dir|data_dir|runs?|child_.*"
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
Measured = TypeVar("Measured")
Runs = dict[str, list[float]]


def parser(documentation: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have."""
    found = argparse.ArgumentParser(description=(documentation or "").partition("\n")[0])
    found.add_argument("--rounds", type=int, default=5, help="in which contenders take turns")
    found.add_argument("--quick", action="store_true", help="seconds, to see that it runs")
    found.add_argument("--note", default="", help="kept beside the figures: 'shared machine'")
    found.add_argument(
        "--folder",
        type=pathlib.Path,
        default=FOLDER,
        help="where README.md is, and results/ will be; of --quick: nowhere, unless it is given",
    )
    return found


def parse(
    found: argparse.ArgumentParser, arguments: Sequence[str] | None, quick: Mapping[str, Any]
) -> argparse.Namespace:
    """The options; with `--quick` those of `quick`, but for what is given explicitly."""
    options = found.parse_args(arguments)
    if options.quick:
        found.set_defaults(**{"rounds": 1, "folder": None, **quick})
        options = found.parse_args(arguments)
    return options


def add_clock(found: argparse.ArgumentParser) -> None:
    """An option for contenders that work in this process alone, on one core."""
    found.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="processor: for a machine with other work, under `taskset -c 0`; threads that wait "
        "for one another would count as working",
    )


def seconds_of(work: Callable[[], Any], clock: str = "wall") -> float:
    """Seconds that `work` takes by a clock of `CLOCKS`."""
    now = CLOCKS[clock]
    begin = now()
    work()
    return now() - begin


def take_turns(
    contenders: Mapping[str, Callable[[], Measured]], rounds: int
) -> dict[str, list[Measured]]:
    """What each contender measures in each round; every second round goes backwards."""
    runs: dict[str, list[Measured]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names if number % 2 == 0 else reversed(names):
            runs[name].append(contenders[name]())
    return runs


def both_clocks(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the wall's clock and of processor time, of this process and those it waited for.

    Other work on the machine slows the first, and the second hardly.
    """
    before = os.times()
    seconds = seconds_of(work)
    return seconds, max(sum(os.times()[:4]) - sum(before[:4]), 0.01)  # it counts hundredths


def by_clock(runs: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Runs]:
    """Runs of `both_clocks`, apart: `{"wall": ..., "processor": ...}`."""
    return {
        clock: {name: [run[place] for run in several] for name, several in runs.items()}
        for place, clock in enumerate(CLOCKS)
    }


def ratio(ours: Sequence[float], peers: Sequence[float]) -> float:
    """The median over rounds of ours / the peer's."""
    return statistics.median(a / b for a, b in zip(ours, peers, strict=True))


def times(ours: Sequence[float], peers: Sequence[float]) -> str:
    """`ratio` for a table."""
    return f"{ratio(ours, peers):.2f}"


def best(runs: Runs, names: Iterable[str]) -> str | None:
    """Of some contenders the one whose median is largest; None where there is none."""
    return max(names, key=lambda name: statistics.median(runs[name]), default=None)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table of Markdown: its columns are those of any row, numbers to the right."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    texts = [[_text(row[name]) if name in row else "" for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *texts, strict=True)]
    right = [
        all(not text or re.match(r"[<~-]?[\d.,]+( |$|%|x)", text) for text in column)
        for column in zip(*texts, strict=True)
    ]

    def line(cells: Iterable[str]) -> str:
        padded = [
            cell.rjust(width) if side else cell.ljust(width)
            for cell, width, side in zip(cells, widths, right, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * (width + 1) + (":" if side else "-")
        for width, side in zip(widths, right, strict=True)
    ]
    return "\n".join([line(names), f"|{'|'.join(rule)}|", *map(line, texts)])


def _text(value: Any) -> str:
    """A number with three digits that count, or what is there as it is."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def keep(
    name: str,
    *,
    what: str,
    options: argparse.Namespace,
    rows: Sequence[Mapping[str, Any]],
    runs: Any,
    packages: Iterable[str],
    accelerator: str = "",
) -> None:
    """Prints the table, and keeps it and what it came from in `options.folder`, unless None.

    **Arguments:**

    - `name`: of the file and the markers.
    - `what`: what was measured, and its unit.
    - `runs`: every figure that was measured, of both sides.
    - `packages`, `accelerator`: see `machine`.

    **Raises:** `SystemExit` where the README has no such markers.
    """
    print(table(rows))
    if options.folder is None:
        return
    if "clock" in vars(options) and options.clock == "processor":
        what += "; seconds are of processor time"
    given = {key: value for key, value in vars(options).items() if not re.fullmatch(PRIVATE, key)}
    result = {"what": what, "note": given.pop("note"), "options": given}
    result |= machine(packages, accelerator) | {"table": list(rows), "runs": runs}
    path = options.folder / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    replace_table(options.folder / "README.md", name, f"{table(rows)}\n\n{source(name, result)}")
    print(f"\nwritten: {path}")


def source(name: str, result: Mapping[str, Any]) -> str:
    """The line under a table: when and where it was measured, and where the runs are."""
    place = result["machine"]
    words = [f"{place['accelerator']};"] if "accelerator" in place else []
    cores = "1 core" if place["cores"] == 1 else f"{place['cores']} cores"
    words += [f"{place['cpu']}, {cores}, load {place['load']},", result["date"][:10]]
    note = f"; {result['note']}" if result["note"] else ""
    return f"{result['what']}. {' '.join(words)}{note}. [All runs](results/{name}.json)."


def replace_table(readme: pathlib.Path, name: str, text: str) -> None:
    """Puts a text between the markers of `name`."""
    markers = rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- end of {name} -->)"
    old = readme.read_text() if readme.exists() else ""
    new, count = re.subn(markers, lambda m: f"{m[1]}\n{text}\n\n{m[2]}", old, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{readme}: the markers of the table {name!r} are missing")
    readme.write_text(new)
