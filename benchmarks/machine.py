"""Where and when a benchmark ran: what its JSON keeps beside the figures."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Iterable
from typing import Any

import psutil


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """Date, processor, load and versions.

    **Arguments:**

    - `packages`: whose versions matter; one that is not installed is left out.
    """
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        model = models[0] if models else model
    versions = {name: importlib.metadata.version(name) for name in packages if installed(name)}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": model,
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(psutil.virtual_memory().total / 2**30),
            "load": round(os.getloadavg()[0], 1),
        },
        "versions": {"python": platform.python_version(), **versions},
    }


def installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
