"""Texts that a spreadsheet would compute as formulas."""

from __future__ import annotations

import pytest

from affect_jax.core.spreadsheets import escape_formula


@pytest.mark.parametrize("value", ["=1+1", "=1", "+a", "-a.jpg", "@SUM(A1)", "=", "-1-1", "+1;2"])
def test_formulas_are_escaped(value):
    assert escape_formula(value) == f"'{value}"


@pytest.mark.parametrize("value", ["", "a=b", "-0.5", "+3", "-.5", 'x"y', -0.5, 3, None])
def test_other_values_are_unchanged(value):
    assert escape_formula(value) is value
