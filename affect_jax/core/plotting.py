"""Drawing with matplotlib: one style, panels, and matrices of cells.

Reports and training share it. The import takes a second, so training imports this module only where
it draws. Lengths are CSS pixels; images have two pixels per CSS pixel. Colours are from the
colour-blind-safe palette of Okabe and Ito; marker shape or position always encodes the same
information as colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

TEXT, MUTED, GRID = "#1c2128", "#5b6572", "#d4dae1"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#c84e00", "#007a5a", "#a3548a"
SERIES_STYLES = ((BLUE, "o"), (ORANGE, "D"), (GREEN, "s"), (PURPLE, "^"))
"""Colour and marker of each series of a figure."""

COLORMAP = LinearSegmentedColormap.from_list("shades", ["#f3f6f9", "#8dbbdb", BLUE, "#012f4f"])
"""One hue from light to dark: larger values are darker, also in greyscale print."""

WHITE_TEXT = 0.62  # on darker shades, white text has more contrast than black text
PIXELS_PER_INCH = 72  # so that a point is a CSS pixel
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": TEXT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "font.family": "DejaVu Sans",
    "font.size": 11.5,
    "grid.color": GRID,
    "legend.frameon": False,
    "text.color": TEXT,
    "text.parse_math": False,  # a class may be named "$"
    "xtick.color": MUTED,
    "xtick.labelcolor": TEXT,
    "xtick.major.size": 0,
    "ytick.color": MUTED,
    "ytick.labelcolor": TEXT,
    "ytick.major.size": 0,
}
MAX_NAMES = 24  # of classes, rows or columns in a figure, so that they are legible


def style() -> AbstractContextManager[None]:
    """Context in which figures are created, drawn and rendered."""
    return matplotlib.rc_context(STYLE)


def create_panel(width: int, height: int, **options: Any) -> Axes:
    """Creates a figure with one pair of axes.

    **Arguments:**

    - `width`, `height`: size in CSS pixels.
    - `options`: properties of the axes, such as `title`, `xlabel` and `xlim`.
    """
    size = (width / PIXELS_PER_INCH, height / PIXELS_PER_INCH)
    figure = Figure(size, dpi=2 * PIXELS_PER_INCH, layout="constrained")
    return figure.add_subplot(**options)


def render(panel: Axes) -> np.ndarray:
    """Renders the figure of a panel on white: uint8 [H, W, 3], two pixels per CSS pixel."""
    figure = panel.get_figure(root=True)
    assert figure is not None
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def truncate(name: str, limit: int = 16) -> str:
    """Truncates a name to at most `limit` characters, so that it fits into a figure."""
    return name if len(name) <= limit else name[: limit - 1] + "…"


def draw_cells(
    panel: Axes,
    fractions: np.ndarray,
    texts: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
) -> None:
    """Draws a matrix of shaded cells with a text in each.

    If there are more than `MAX_NAMES` rows or columns, the cells have no text and only every n-th
    name is shown.

    **Arguments:**

    - `fractions`: float [R, C] in [0, 1], the shade; NaN is not shaded.
    - `texts`: str [R, C].
    - `rows`, `columns`: names of the rows and columns.
    """
    nth = -(-max(fractions.shape) // MAX_NAMES)
    lines = {"edgecolors": "#ffffff", "linewidth": 0.8} if nth == 1 else {}
    panel.grid(False)
    panel.spines[:].set_visible(False)
    panel.pcolormesh(fractions, cmap=COLORMAP, vmin=0, vmax=1, **lines)
    row_names, column_names = (list(map(truncate, names))[::nth] for names in (rows, columns))
    panel.set_xticks(np.arange(len(columns))[::nth] + 0.5, column_names, rotation=45, ha="right")
    panel.set_yticks(np.arange(len(rows))[::nth] + 0.5, row_names)
    panel.tick_params(pad=1)
    panel.invert_yaxis()
    if nth > 1:
        return
    for (row, column), text in np.ndenumerate(texts):
        colour = "#ffffff" if fractions[row, column] > WHITE_TEXT else "#000000"
        position = (column + 0.5, row + 0.5)
        panel.text(*position, text, ha="center", va="center", fontsize=9, color=colour)
