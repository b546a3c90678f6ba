"""Describes the machine of a benchmark: processor, memory, load, versions and date."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Iterable
from typing import Any


def describe_machine(packages: Iterable[str], accelerator: str = "") -> dict[str, Any]:
    """Returns date, processor, load and versions, for the result file.

    **Arguments:**

    - `packages`: packages whose versions are saved; those not installed are skipped.
    - `accelerator`: the name of the GPU, if one is used.
    """
    cpu = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        cpu = models[0] if models else cpu
    versions = {name: importlib.metadata.version(name) for name in packages if is_installed(name)}
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
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_installed(package: str) -> bool:
    """Whether a distribution of this name is installed."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
