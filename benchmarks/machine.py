"""Where and when a benchmark ran: what its JSON keeps beside the figures."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Iterable
from typing import Any


def machine(packages: Iterable[str], accelerator: str = "") -> dict[str, Any]:
    """Date, processor, load and versions.

    **Arguments:**

    - `packages`: whose versions matter; one that is not installed is left out.
    - `accelerator`: the name of the card, where one was used.
    """
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        model = models[0] if models else model
    versions = {name: importlib.metadata.version(name) for name in packages if installed(name)}
    found = {
        "cpu": model,
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load": round(os.getloadavg()[0], 1),
    }
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": found | ({"accelerator": accelerator} if accelerator else {}),
        "versions": {"python": platform.python_version(), **versions},
    }


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
