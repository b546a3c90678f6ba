"""Environment variables for XLA and JAX."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from affect_jax.core import env_vars
from affect_jax.data import loader

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
MEMORY_FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"


@pytest.fixture
def set_variables(monkeypatch):
    """Returns a function that sets the given environment variables and unsets all related ones."""

    def set_only(variables: dict[str, str]) -> None:
        for name in (MEMORY_FRACTION, "XLA_FLAGS", "JAX_PLATFORMS"):
            monkeypatch.setenv(name, "")  # so that monkeypatch restores it
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_only


def test_affectnet_fits_on_a_gpu_of_80_gb(set_variables):
    set_variables({})
    env_vars.set_gpu_memory_fraction()
    share = float(os.environ[MEMORY_FRACTION])
    assert 287_651 * 256 * 256 * 3 < loader.DEVICE_MEMORY_FRACTION * share * 80e9 and share < 0.95


def test_user_can_set_the_gpu_memory_fraction(set_variables):
    set_variables({MEMORY_FRACTION: ".5"})
    env_vars.set_gpu_memory_fraction()
    assert os.environ[MEMORY_FRACTION] == ".5"


@pytest.mark.parametrize(("version", "fused"), [("0.10.2", "dot,reduce"), ("0.12.0.1", "dot")])
def test_fusion_types_are_set_for_measured_versions(set_variables, monkeypatch, version, fused):
    set_variables({"XLA_FLAGS": "--xla_other=1", "JAX_PLATFORMS": "cpu"})
    monkeypatch.setattr(env_vars.importlib.metadata, "version", {"jaxlib": version}.get)
    env_vars.set_cpu_fusion_types()
    env_vars.set_cpu_fusion_types()  # a second call changes nothing
    flag = f"--xla_cpu_experimental_ynn_fusion_type={fused}"
    assert os.environ["XLA_FLAGS"] == f"--xla_other=1 {flag}"


@pytest.mark.parametrize(
    ("version", "flags", "platforms"),
    [
        ("0.9.2", "", "cpu"),
        ("0.13.0", "", "cpu"),  # an unknown flag would end the process
        ("0.10.2", "--xla_cpu_experimental_ynn_fusion_type=", "cpu"),
        ("0.10.2", "", "cuda,cpu"),
    ],
)
def test_fusion_types_are_not_changed_otherwise(
    set_variables, monkeypatch, version, flags, platforms
):
    set_variables({"XLA_FLAGS": flags, "JAX_PLATFORMS": platforms})
    monkeypatch.setattr(env_vars.importlib.metadata, "version", {"jaxlib": version}.get)
    monkeypatch.setattr(env_vars.importlib.util, "find_spec", lambda name: name == "jax_plugins")
    env_vars.set_cpu_fusion_types()
    assert os.environ["XLA_FLAGS"] == flags


@pytest.mark.slow
def test_fusion_types_do_not_change_the_loss():
    """Compares 50 steps in two processes, because JAX reads the flags only at its start."""
    if not importlib.metadata.version("jaxlib").startswith(tuple(env_vars.CPU_FUSION_TYPES)):
        pytest.skip("this version of jaxlib was not measured: its fusion types are not changed")
    program = """if True:
        import os
        from affect_jax.core import env_vars
        if os.environ["FUSED"]:
            env_vars.set_cpu_fusion_types()
            assert "fusion_type" in os.environ["XLA_FLAGS"]
        from tests.train import test_step
        print(*test_step.run("alexnet_one_tower", ("expression",), 1, count=50)[0])
    """
    losses = []
    for fused in ("", "1"):
        variables = {"FUSED": fused, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
        command = [sys.executable, "-c", program]
        result = subprocess.run(
            command, env=os.environ | variables, cwd=REPOSITORY, capture_output=True, check=True
        )
        losses.append([float(loss) for loss in result.stdout.split()])
    assert len(losses[0]) == 50
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
