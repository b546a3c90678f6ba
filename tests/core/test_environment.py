"""What is said to glibc, XLA and JAX before they start."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from affect_jax.core import environment
from affect_jax.data import loader

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SHARE = "XLA_PYTHON_CLIENT_MEM_FRACTION"


@pytest.fixture
def given(monkeypatch):
    """Sets the variables that are read here, and those only."""

    def give(variables: dict[str, str]) -> None:
        for name in (SHARE, "XLA_FLAGS", "JAX_PLATFORMS", "GLIBC_TUNABLES"):
            monkeypatch.setenv(name, "")  # so that it is put back as it was
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return give


def test_a_card_of_80_gb_has_room_for_affectnet(given):
    given({})
    environment.claim_memory()
    share = float(os.environ[SHARE])
    assert 287_651 * 256 * 256 * 3 < loader.SHARE_OF_DEVICES * share * 80e9 and share < 0.95


def test_the_share_of_a_card_may_be_given(given):
    given({SHARE: ".5"})
    environment.claim_memory()
    assert os.environ[SHARE] == ".5"


@pytest.mark.parametrize(("version", "fused"), [("0.10.2", "dot,reduce"), ("0.12.0.1", "dot")])
def test_a_measured_jaxlib_is_told_what_to_fuse(given, monkeypatch, version, fused):
    given({"XLA_FLAGS": "--xla_other=1", "JAX_PLATFORMS": "cpu"})
    monkeypatch.setattr(environment.importlib.metadata, "version", {"jaxlib": version}.get)
    environment.choose_fusions()
    environment.choose_fusions()  # once is enough
    flag = f"--xla_cpu_experimental_ynn_fusion_type={fused}"
    assert os.environ["XLA_FLAGS"] == f"--xla_other=1 {flag}"


@pytest.mark.parametrize(
    ("version", "flags", "platforms"),
    [
        ("0.9.2", "", "cpu"),
        ("0.13.0", "", "cpu"),  # a flag that it may not know would end the process
        ("0.10.2", "--xla_cpu_experimental_ynn_fusion_type=", "cpu"),
        ("0.10.2", "", "cuda,cpu"),
    ],
)
def test_others_fuse_what_they_do(given, monkeypatch, version, flags, platforms):
    given({"XLA_FLAGS": flags, "JAX_PLATFORMS": platforms})
    monkeypatch.setattr(environment.importlib.metadata, "version", {"jaxlib": version}.get)
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: name == "jax_plugins")
    environment.choose_fusions()
    assert os.environ["XLA_FLAGS"] == flags


def test_what_is_fused_changes_no_loss():
    """Over 50 steps, in two processes, as flags are read once."""
    if not importlib.metadata.version("jaxlib").startswith(tuple(environment.FUSIONS)):
        pytest.skip("a jaxlib that was not measured: runs change nothing")
    program = """if True:
        import os
        from affect_jax.core import environment
        if os.environ["FUSED"]:
            environment.choose_fusions()
            assert "fusion_type" in os.environ["XLA_FLAGS"]
        from tests.train import test_step
        print(*test_step.run("alexnet_one_tower", ("expression",), 1, count=50)[0])
    """
    losses = []
    for fused in ("", "1"):
        variables = {"FUSED": fused, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
        command = [sys.executable, "-c", program]
        found = subprocess.run(
            command, env=os.environ | variables, cwd=REPOSITORY, capture_output=True, check=True
        )
        losses.append([float(loss) for loss in found.stdout.split()])
    assert len(losses[0]) == 50
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


@pytest.fixture
def started(given, monkeypatch, tmp_path):
    """What `use_huge_pages` starts, on a machine of one's choice: nothing or [its arguments]."""

    def start(
        variables: dict[str, str],
        library: str | None = "glibc 2.36",
        pages: str | None = "always [madvise] never\n",
    ) -> list[list[str]]:
        found: list[list[str]] = []
        given({"JAX_PLATFORMS": "cpu"} | variables)
        monkeypatch.setattr(environment, "HUGE_PAGES", tmp_path / "enabled")
        if pages is not None:
            (tmp_path / "enabled").write_text(pages)
        monkeypatch.setattr(os, "confstr", lambda name: library)
        monkeypatch.setattr(os, "execv", lambda path, arguments: found.append(arguments))
        environment.use_huge_pages()
        environment.use_huge_pages()  # as the new process does: once is enough
        return found

    return start


@pytest.mark.parametrize(
    ("tunables", "expected"),
    [
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.rtld.nns=4", "glibc.rtld.nns=4:glibc.malloc.hugetlb=1"),
    ],
)
def test_huge_pages_are_asked_for_once(started, tunables, expected):
    assert started({"GLIBC_TUNABLES": tunables}) == [sys.orig_argv]
    assert os.environ["GLIBC_TUNABLES"] == expected


@pytest.mark.parametrize(
    "machine",
    [
        {"variables": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}},
        {"variables": {"JAX_PLATFORMS": "cuda"}},
        {"library": "glibc 2.34"},
        {"library": "musl 1.2"},
        {"library": None},
        {"pages": "[always] madvise never"},
        {"pages": "always madvise [never]"},
        {"pages": None},
    ],
    ids=str,
)
def test_huge_pages_are_not_asked_for_in_vain(started, monkeypatch, machine):
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: name == "jax_plugins")
    assert started(machine.pop("variables", {}), **machine) == []


def test_a_command_that_starts_anew_is_the_same_command():
    """Its process, arguments and standard input too."""
    program = """if True:
        import os, sys
        from affect_jax.core import environment
        print(os.getpid(), flush=True)
        environment.use_huge_pages()
        print(os.getpid(), sys.argv[1:], sys.stdin.read(), os.environ.get("GLIBC_TUNABLES"))
    """
    variables = {"JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": ""}
    found = subprocess.run(
        [sys.executable, "-c", program, "--flag=a b", ""],
        env=os.environ | variables,
        cwd=REPOSITORY,
        input="given",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    *begun, last = found.stdout.splitlines()
    said = environment.TUNABLE + "=1" if environment._asks_for_huge_pages() else ""
    assert len(begun) == (2 if said else 1)
    assert last.strip() == f"{begun[0]} ['--flag=a b', ''] given {said}".strip()
