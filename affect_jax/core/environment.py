"""What is said to glibc, XLA and JAX by environment variables, before they start.

Only what was measured is said, and nothing that the user says himself.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pathlib
import sys

SHARE_OF_CARD = ".92"
"""How much of a GPU's memory JAX takes. Its own 75% would leave no room for AffectNet's 287,651
decoded faces (56.6 GB, of which `data.cache` may take 80%) on a card of 80 GB; the rest is for CUDA
itself. The variable `XLA_PYTHON_CLIENT_MEM_FRACTION` says otherwise."""

FUSIONS = {"0.10": "dot,reduce", "0.11": "dot,reduce", "0.12": "dot"}
"""What XLA gives to its library of fused operations on a CPU, by jaxlib's version: not
convolutions, whose weight gradients its own code has in two thirds of the time
(benchmarks/README.md, "What a step consists of"), nor reductions where those of bfloat16 are wrong
(0.12.0). Other versions, which nobody measured, do as they do: a flag that one does not know would
end the process."""

HUGE_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
TUNABLE = "glibc.malloc.hugetlb"


def claim_memory() -> None:
    """Lets JAX take `SHARE_OF_CARD` of a GPU's memory."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", SHARE_OF_CARD)


def choose_fusions() -> None:
    """Sets `FUSIONS`, unless `XLA_FLAGS` says what to fuse.

    Only where CPUs alone compute: the compilers of accelerators read the same variable.
    """
    given = os.environ.get("XLA_FLAGS", "")
    version = ".".join(importlib.metadata.version("jaxlib").split(".")[:2])
    if _only_cpus() and version in FUSIONS and "fusion_type" not in given:
        flag = f"--xla_cpu_experimental_ynn_fusion_type={FUSIONS[version]}"
        os.environ["XLA_FLAGS"] = f"{given} {flag}".strip()


def use_huge_pages() -> None:
    """Starts this very command anew with huge pages for large arrays, where that helps.

    XLA takes fresh memory for a step's arrays each time, a gigabyte or more on a CPU; in pages of
    4 KiB Linux spends up to a fifth of the step on handing it out. Only CPUs that compute
    themselves have such arrays; only glibc asks for huge pages, and only as it starts. Where Linux
    gives them to all, or to nobody, there is nothing to ask for.
    """
    given = os.environ.get("GLIBC_TUNABLES", "")
    if TUNABLE in given or not (_only_cpus() and _asks_for_huge_pages()):
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, (given, f"{TUNABLE}=1")))
    sys.stdout.flush()
    os.execv(sys.executable, sys.orig_argv)


def _asks_for_huge_pages() -> bool:
    """Whether glibc can (from 2.35 on, 2021) and Linux waits to be asked."""
    try:
        library, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        numbers = tuple(int(part) for part in version.split(".")[:2])
        return library == "glibc" and numbers >= (2, 35) and "[madvise]" in HUGE_PAGES.read_text()
    except (AttributeError, OSError, ValueError):  # another system, or another library
        return False


def _only_cpus() -> bool:
    return os.environ.get("JAX_PLATFORMS") == "cpu" or not any(
        importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu")
    )
