"""The README: short, and its scores are those of the results and of the card."""

from __future__ import annotations

import re

from tests.docs.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_readme_is_short():
    assert len(README.splitlines()) < 150


def test_scores_are_in_the_results():
    scores = re.findall(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", README)
    pages = [(ROOT / "docs" / name).read_text() for name in ("results.md", "ready_model.md")]
    assert len(scores) == 8
    assert not [score for score in scores if score not in "".join(pages)]
