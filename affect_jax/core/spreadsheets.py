"""CSV cells that are safe to open in a spreadsheet."""

from __future__ import annotations

import re
from typing import Any


def escape_formula(value: Any) -> Any:
    """Prefixes a text that a spreadsheet would compute as a formula with `'`.

    Numbers and texts of numbers, such as `-0.5`, stay as they are.
    """
    is_formula = isinstance(value, str) and re.match(r"[=@]|[+-](?!\d*\.?\d+$)", value)
    return f"'{value}" if is_formula else value
