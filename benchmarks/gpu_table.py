"""The table of `benchmarks.gpu`: what its parts told, a line each, as rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from affect_jax.core.labels import TRAINING_COUNTS
from benchmarks import recording

OURS, EAGER, COMPILED = "affect_jax", "PyTorch", "PyTorch, compiled"
FACES, EPOCHS = sum(TRAINING_COUNTS[:8]), 20  # the protocol's schedule
WANTED = {"alexnet": 3.0, "resnet18": 6.0}  # minutes of the schedule on an H100


def rows_of(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The one table: steps in images/s, schedules in minutes, flags in images/s."""
    peak = next((line["flops"] for line in found if line["part"] == "peak"), 0.0)
    steps = [line for line in found if line["part"] == "steps" and OURS in line["rates"]]
    schedules = [line for line in found if line["part"] == "schedule"]
    flags = [line for line in found if line["part"] == "flags"]
    rows = [of_step(line, peak) for line in steps]
    rows += [of_schedule(line, steps) for line in schedules]
    return rows + [of_flag(line) for line in flags]


def of_step(line: Mapping[str, Any], peak: float | None) -> dict[str, Any]:
    rates = line["rates"]
    best = recording.best(rates, [name for name in rates if name != OURS])
    row = {"what": f"{line['step']}, images/s"}
    row |= {name: line[name] for name in ("network", "type", "batch")}
    row |= {
        name: round(statistics.median(rates[name])) if name in rates else "-"
        for name in (OURS, EAGER, COMPILED)
    }
    row["to PyTorch's best"] = recording.times(rates[OURS], rates[best]) if best else "-"
    if peak and line["operations"]:
        share = line["operations"] * statistics.median(rates[OURS]) / peak
        row["of the limit"] = f"{share:.1%}"
    return row


def of_schedule(line: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Beside it PyTorch's steps alone, as many."""
    name, size = line["network"], line["batch"]
    row = {"what": "schedule, minutes", "network": name, "type": line["type"], "batch": size}
    row[OURS] = f"{line['minutes']:.2f}"
    same = [
        other["rates"]
        for other in steps
        if other["step"] == "train"
        and all(other[key] == line[key] for key in ("network", "type", "batch"))
    ]
    for peer in (EAGER, COMPILED):
        rates = same[0].get(peer) if same else None
        images = EPOCHS * (FACES // size) * size
        row[peer] = f"{images / statistics.median(rates) / 60:.2f}" if rates else "-"
    return row | {"wanted": f"< {WANTED[name]:g}"}


def of_flag(line: Mapping[str, Any]) -> dict[str, Any]:
    flag, rates = line["flag"], line["rates"]
    row = {"what": f"train, images/s, {flag}"}
    row |= {name: line[name] for name in ("network", "type", "batch")}
    row |= {OURS: round(statistics.median(rates[flag]))}
    return row | {"to no flag": recording.times(rates[flag], rates[""])}
