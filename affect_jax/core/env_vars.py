"""Environment variables for XLA and JAX, which must be set before they start.

Only settings with a measured benefit are made. Variables that the user sets take precedence.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os

GPU_MEMORY_FRACTION = ".92"
"""Fraction of a GPU's memory that JAX allocates. With JAX's default of 75%, AffectNet's 287,651
decoded faces (56.6 GB; `data.cache` may use 80%) would not fit on a GPU of 80 GB. The rest is for
CUDA itself. The variable `XLA_PYTHON_CLIENT_MEM_FRACTION` overrides it."""

CPU_FUSION_TYPES = {"0.10": "dot,reduce", "0.11": "dot,reduce", "0.12": "dot"}
"""Operations that XLA passes to its library of fused operations (YNN) on a CPU, by jaxlib version.
Convolutions are excluded, because XLA's own code computes their weight gradients in two thirds of
the time; so are reductions in 0.12.0, where those of bfloat16 are wrong. Other versions were not
measured and keep their default: an unknown flag would end the process."""


def set_gpu_memory_fraction() -> None:
    """Lets JAX allocate `GPU_MEMORY_FRACTION` of a GPU's memory."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", GPU_MEMORY_FRACTION)


def set_cpu_fusion_types() -> None:
    """Sets `CPU_FUSION_TYPES` in `XLA_FLAGS`, unless the variable already sets it.

    It does nothing on machines with accelerators, whose compilers read the same variable.
    """
    is_cpu_only = os.environ.get("JAX_PLATFORMS") == "cpu" or not any(
        importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu")
    )
    xla_flags = os.environ.get("XLA_FLAGS", "")
    version = ".".join(importlib.metadata.version("jaxlib").split(".")[:2])
    if is_cpu_only and version in CPU_FUSION_TYPES and "fusion_type" not in xla_flags:
        flag = f"--xla_cpu_experimental_ynn_fusion_type={CPU_FUSION_TYPES[version]}"
        os.environ["XLA_FLAGS"] = f"{xla_flags} {flag}".strip()
