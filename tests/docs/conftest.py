"""Fixtures of the documentation: its sources and the built site."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def code_blocks(path: pathlib.Path, language: str) -> list[str]:
    """Returns the code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.+?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> pathlib.Path:
    """Builds the site; warnings are errors."""
    pytest.importorskip("zensical", reason="the extra `docs` builds the site")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    (folder / "affect_jax").symlink_to(ROOT / "affect_jax")
    result = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0 and "warning" not in output.lower(), output
    return folder / "build" / "site"
