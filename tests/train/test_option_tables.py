"""docs/options.md lists all config keys and components, with the meaning of each."""

from __future__ import annotations

import re
import subprocess
import sys

from affect_jax import main
from affect_jax.config import defaults, flatten
from affect_jax.train import option_tables
from affect_jax.train.experiment import load_registries
from tests.docs.conftest import ROOT

PAGE = (ROOT / "docs" / "options.md").read_text()
ROWS = [line[2:-2].split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]


def test_page_is_the_output_of_the_command():
    # In a process of its own: other tests register components in this one.
    command = [sys.executable, "-m", "affect_jax.main", "--list=all"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout == PAGE, "python -m affect_jax.main --list=all > docs/options.md"
    assert main.TABLES == ["all", "config", *option_tables.TABLES]


def test_every_key_and_component_is_listed():
    names = {re.sub(r"[*`]", "", cell) for cells in ROWS for cell in cells[:2]}
    for registry in load_registries().values():
        packaged = [n for n in registry.names() if registry[n].__module__.startswith("affect_jax.")]
        assert names >= set(packaged), registry.kind
    for key in flatten(defaults()):
        parts = key.split(".")
        assert names & {".".join(parts[:end]) for end in (1, 2, 3)}, key


def test_every_row_has_a_meaning():
    assert len(ROWS) > 150
    assert [cells for cells in ROWS if not cells[-1].strip()] == []
