"""Shared code of the benchmarks: flags, interleaved runs, ratios, tables and result files.

A single timing on a busy machine is unreliable; the ratio of two timings taken one after the other
is more stable. So contenders run in turns, and a ratio is the median of the ratios of all rounds.

`write_result` writes `results/NAME.json` (machine, versions, date, every run of every contender)
and a table between two markers of `README.md`:

    <!-- NAME: python -m benchmarks.NAME -->
    <!-- end of NAME -->
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import inspect
import json
import os
import pathlib
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from tabulate import tabulate

FOLDER = pathlib.Path(__file__).resolve().parent
# Flags that name local paths: not saved.
PRIVATE_ARGUMENTS = r"folder|page|.*_dir|runs"
PACKAGES = (  # their versions are saved with a result
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "array-record", "clu"),
    *("tensorflow-datasets", "numpy", "simplejpeg", "opencv-python-headless", "pillow"),
    *("onnx", "onnxruntime", "scikit-learn", "krippendorff", "torch", "torchvision", "timm"),
)
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
Measurement = TypeVar("Measurement")
Runs = dict[str, list[float]]  # contender -> one value a round

CLOCK = ("wall", "wall", "or processor: on a busy machine, under `taskset -c 0`")
"""The flag `--clock`, for contenders that run in this process, on one core."""
WIDTH = (0, 16, "of alexnet's classifier or resnet18's first stage; 0: as published")
"""The flag `--width`, for alexnet and resnet18."""


def parse_args(
    documentation: str | None, argv: Sequence[str] | None, **flags: tuple[Any, ...]
) -> argparse.Namespace:
    """Parses the flags that all benchmarks share and those of one benchmark.

    **Arguments:** `flags`: by name: the default, the default with `--quick` and, if needed, a help
    text. A flag has the type of its default, a tuple takes any number of values; a type in place of
    a default, or of the values of a tuple, makes the flag a required one.
    """
    parser = argparse.ArgumentParser(description=inspect.cleandoc(documentation or ""))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender runs")
    parser.add_argument(
        "--quick", action="store_true", help="runs for seconds, to test the command"
    )
    parser.add_argument("--note", default="", help="saved with the result: 'shared machine'")
    text = "folder with README.md and results/; --quick writes nothing unless this is set"
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER, help=text)
    for name, (default, _, *text) in flags.items():
        settings: dict[str, Any] = {
            "default": default,
            "type": type(default),
            "help": "".join(text),
        }
        if isinstance(default, tuple) and isinstance(default[0], type):
            settings |= {"type": default[0], "nargs": "+", "required": True}
        elif isinstance(default, tuple):
            settings |= {"type": type(default[0]), "nargs": "*"}
        elif isinstance(default, type):
            settings |= {"type": default, "required": True}
        parser.add_argument(f"--{name}", **settings)
    args = parser.parse_args(argv)
    if args.quick:
        quick = {name: value for name, (_, value, *_) in flags.items() if value is not None}
        parser.set_defaults(rounds=1, folder=None, **quick)
        args = parser.parse_args(argv)
    return args


def measure_seconds(work: Callable[[], Any], clock: str = "wall") -> float:
    """Returns the seconds that `work` takes by a clock of `CLOCKS`."""
    now = CLOCKS[clock]
    begin = now()
    work()
    return now() - begin


def run_interleaved(
    contenders: Mapping[str, Callable[[], Measurement]], rounds: int
) -> dict[str, list[Measurement]]:
    """Runs each contender once a round, every second round in reverse order.

    **Returns:** contender -> the values it returned, one a round.
    """
    runs: dict[str, list[Measurement]] = {name: [] for name in contenders}
    for round_number in range(rounds):
        names = list(contenders)
        for name in names if round_number % 2 == 0 else reversed(names):
            runs[name].append(contenders[name]())
    return runs


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Returns the median over rounds of numerator / denominator."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def format_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> str:
    """Formats `median_ratio` for a table."""
    return f"{median_ratio(numerators, denominators):.2f}"


def fastest(rates: Runs, names: Iterable[str]) -> str | None:
    """Returns the name with the largest median rate, or None if `names` is empty."""
    return max(names, key=lambda name: statistics.median(rates[name]), default=None)


def summarize(runs: Runs, unit: str, ratios: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Returns a row for each contender: the median, and ratios to other contenders.

    **Arguments:** `ratios`: title of a column -> the contender to divide by; None: no such column.
    """
    return [
        {"contender": name, unit: statistics.median(values)}
        | {title: format_ratio(values, runs[peer]) for title, peer in ratios.items() if peer}
        for name, values in runs.items()
    ]


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Formats rows as a Markdown table with all their columns, the first aligned left."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_format_cell(row[name]) if name in row else "" for name in names] for row in rows]
    alignment = ("left", *("right" for _ in names[1:]))
    return tabulate(cells, names, "pipe", colalign=alignment, disable_numparse=True)


def _format_cell(value: Any) -> str:
    """Formats a float with three significant digits, and any other value as it is."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write_result(
    name: str,
    *,
    what: str,
    args: argparse.Namespace,
    rows: Sequence[Mapping[str, Any]],
    runs: Any,
    accelerator: str = "",
    page: pathlib.Path | None = None,
    key: Sequence[str] = (),
) -> None:
    """Prints the table, and writes it and the raw runs below `args.folder`, unless that is None.

    **Arguments:**

    - `name`: the name of the result file and of the markers.
    - `what`: what is measured, and its unit.
    - `runs`: every measured value of all contenders.
    - `accelerator`: the name of the GPU, if one is used.
    - `page`: the file with the markers; None: `README.md` in the folder.
    - `key`: columns that identify a row: rows of an earlier run with other values are kept.

    **Raises:** `SystemExit` if the page has no such markers.
    """
    print(markdown_table(rows))
    if args.folder is None:
        return
    if "clock" in vars(args) and args.clock == "processor":
        what += "; seconds are of processor time"
    saved_args = {
        key: value for key, value in vars(args).items() if not re.fullmatch(PRIVATE_ARGUMENTS, key)
    }
    result = {"what": what, "note": saved_args.pop("note"), "options": saved_args}
    result |= describe_machine(accelerator) | {"table": list(rows), "runs": runs}
    path = args.folder / "results" / f"{name}.json"
    if key and path.exists():
        result = keep_other_rows(result, json.loads(path.read_text()), key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    page = page or args.folder / "README.md"
    table = markdown_table(result["table"])
    source = source_line(path.relative_to(args.folder.parent), result)
    replace_table(page, name, f"{table}\n\n{source}")
    print(f"\nwritten: {path}")


def keep_other_rows(
    result: dict[str, Any], old: Mapping[str, Any], key: Sequence[str]
) -> dict[str, Any]:
    """Adds the rows and runs of an earlier result that the new one does not replace."""
    new_keys = [[row[name] for name in key] for row in result["table"]]
    kept = [row for row in old["table"] if [row[name] for name in key] not in new_keys]
    if not kept:
        return result
    about = {name: old[name] for name in ("note", "options", "date", "machine", "versions")}
    result |= {"earlier": [*old.get("earlier", []), about], "runs": old["runs"] | result["runs"]}
    return result | {"table": kept + result["table"]}


def source_line(path: pathlib.Path, result: Mapping[str, Any]) -> str:
    """Returns the line under a table: date and machine of the measurement, file of the raw runs."""
    machine = result["machine"]
    words = [f"{machine['accelerator']};"] if "accelerator" in machine else []
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    words += [f"{machine['cpu']}, {cores}, load {machine['load']},", result["date"][:10]]
    note = f"; {result['note']}" if result["note"] else ""
    earlier = result.get("earlier", [])
    if others := sorted({f"{old['machine']['cpu']}, {old['date'][:10]}" for old in earlier}):
        note += f"; rows that this run did not measure: {'; '.join(others)}"
    return f"{result['what']}. {' '.join(words)}{note}. All runs: `{path}`."


def replace_table(readme: pathlib.Path, name: str, text: str) -> None:
    """Replaces the text between the markers of `name`.

    **Raises:** `SystemExit` if the markers are not there exactly once.
    """
    markers = rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- end of {name} -->)"
    old = readme.read_text() if readme.exists() else ""
    new, count = re.subn(markers, lambda m: f"{m[1]}\n{text}\n\n{m[2]}", old, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{readme}: the markers of the table {name!r} are missing; add them")
    readme.write_text(new)


def describe_machine(accelerator: str) -> dict[str, Any]:
    """Returns date, processor, load and versions, for the result file."""
    cpu = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        cpu = models[0] if models else cpu
    versions = {name: importlib.metadata.version(name) for name in PACKAGES if is_installed(name)}
    hardware = {
        "cpu": cpu,
        "cores": count_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load": round(os.getloadavg()[0], 1),
    }
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": hardware | ({"accelerator": accelerator} if accelerator else {}),
        "versions": {"python": platform.python_version(), **versions},
    }


def count_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def is_installed(package: str) -> bool:
    """Whether a distribution of this name is installed."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
