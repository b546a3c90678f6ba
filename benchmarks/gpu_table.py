"""The table of `benchmarks.gpu`: one row for each measurement."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from affect_jax.core.labels import TRAINING_COUNTS
from benchmarks import harness

OURS, EAGER, COMPILED = "affect_jax", "PyTorch", "PyTorch, compiled"
FACES, EPOCHS = sum(TRAINING_COUNTS[:8]), 20  # the schedule of the protocol
TARGET_MINUTES = {"alexnet": 3.0, "resnet18": 6.0}  # of the schedule on an H100


def table_rows(measurements: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows: steps in images/s, schedules in minutes, flags in images/s."""

    def of_part(part: str) -> list[Mapping[str, Any]]:
        return [measurement for measurement in measurements if measurement["part"] == part]

    peak_flops = next((peak["flops"] for peak in of_part("peak")), 0.0)
    steps = [step for step in of_part("steps") if OURS in step["rates"]]
    rows = [step_row(step, peak_flops) for step in steps]
    rows += [schedule_row(schedule, steps) for schedule in of_part("schedule")]
    return rows + [flag_row(flag) for flag in of_part("flags")]


def step_row(step: Mapping[str, Any], peak_flops: float | None) -> dict[str, Any]:
    rates = step["rates"]
    best = harness.fastest(rates, [name for name in rates if name != OURS])
    row = {"what": f"{step['step']}, images/s"}
    row |= {name: step[name] for name in ("network", "type", "batch")}
    row |= {
        name: round(statistics.median(rates[name])) if name in rates else "-"
        for name in (OURS, EAGER, COMPILED)
    }
    row["to PyTorch's best"] = harness.format_ratio(rates[OURS], rates[best]) if best else "-"
    if peak_flops and step["operations"]:
        share = step["operations"] * statistics.median(rates[OURS]) / peak_flops
        row["of the limit"] = f"{share:.1%}"
    return row


def schedule_row(schedule: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the row of a schedule, with the time of as many steps alone in PyTorch."""
    name, size = schedule["network"], schedule["batch"]
    row = {"what": "schedule, minutes", "network": name, "type": schedule["type"], "batch": size}
    row[OURS] = f"{schedule['minutes']:.2f}"
    step_rates = [
        step["rates"]
        for step in steps
        if step["step"] == "train"
        and all(step[key] == schedule[key] for key in ("network", "type", "batch"))
    ]
    for peer in (EAGER, COMPILED):
        rates = step_rates[0].get(peer) if step_rates else None
        images = EPOCHS * (FACES // size) * size
        row[peer] = f"{images / statistics.median(rates) / 60:.2f}" if rates else "-"
    return row | {"wanted": f"< {TARGET_MINUTES[name]:g}"}


def flag_row(measurement: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the row of a compiler flag, with the ratio to the same step without it."""
    flag, rates = measurement["flag"], measurement["rates"]
    row = {"what": f"train, images/s, {flag}"}
    row |= {name: measurement[name] for name in ("network", "type", "batch")}
    row |= {OURS: round(statistics.median(rates[flag]))}
    return row | {"to no flag": harness.format_ratio(rates[flag], rates[""])}
