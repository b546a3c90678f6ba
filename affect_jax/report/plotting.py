"""Figure style, plotting helpers and rendering to SVG, PNG and pixel arrays.

Each figure is drawn twice: for a wide page and for a phone, with fewer columns of panels and text
of the same size. Lengths are CSS pixels. Colours are from the colour-blind-safe palette of Okabe
and Ito; marker shape or position always encodes the same information as colour.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from affect_jax.report import score_names

TEXT, MUTED, GRID = "#1c2128", "#5b6572", "#d4dae1"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#c84e00", "#007a5a", "#a3548a"
SERIES_STYLES = ((BLUE, "o"), (ORANGE, "D"), (GREEN, "s"), (PURPLE, "^"))
"""Colours and markers of runs, and of Orig and Norm."""

CELL_TEXT = "#000000"  # on coloured cells, which look the same in dark mode
DARK_MODE = {TEXT: "#e8ebef", MUTED: "#a5afbb", GRID: "#3b444e"}
DARK_MODE |= {BLUE: "#5db3e8", ORANGE: "#f08a4b", GREEN: "#3fbf97", PURPLE: "#d48fbd"}
"""Replacement of each line and text colour in dark mode."""

COLORMAP = LinearSegmentedColormap.from_list("shades", ["#f3f6f9", "#8dbbdb", BLUE, "#012f4f"])
"""One hue from light to dark: larger values are darker, also in greyscale print."""

WIDE_WIDTH, NARROW_WIDTH = 900, 350
_PIXELS_PER_INCH = 72  # so that a point is a CSS pixel
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": TEXT,
    "axes.labelsize": 11.5,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": TEXT,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titlepad": 8,
    "figure.dpi": _PIXELS_PER_INCH,
    "font.family": "DejaVu Sans",
    "font.size": 11.5,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 11.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "affect_jax",
    "text.color": TEXT,
    "xtick.color": MUTED,
    "xtick.labelsize": 11,
    "xtick.major.size": 0,
    "ytick.color": MUTED,
    "ytick.labelsize": 11,
    "ytick.major.size": 0,
}


@dataclasses.dataclass(frozen=True)
class FigureSpec:
    """A figure to be drawn.

    **Arguments:**

    - `name`: file name, and name in TensorBoard.
    - `title`: heading.
    - `alt`: alternative text that describes what the figure shows.
    - `note`: caption that explains how to read the figure.
    - `draw`: function that draws the figure, for a wide page if its argument is True.
    """

    name: str
    title: str
    alt: str
    note: str
    draw: Callable[[bool], Figure]


@dataclasses.dataclass(frozen=True)
class RenderedFigure:
    """A rendered figure: SVG data URIs with (width, height) in CSS pixels, and pixels."""

    spec: FigureSpec
    wide: str
    wide_size: tuple[int, int]
    narrow: str
    narrow_size: tuple[int, int]
    pixels: np.ndarray  # uint8 [H, W, 3], two pixels per CSS pixel


def render_figure(spec: FigureSpec) -> RenderedFigure:
    """Renders the figure in all formats."""
    with matplotlib.rc_context(_STYLE):
        wide, narrow = spec.draw(True), spec.draw(False)
        svgs = [_render_svg(wide), _render_svg(narrow)]
        wide.set_layout_engine("none")  # reuses the layout, which is the slowest step
        pixels = render_pixels(wide)
    return RenderedFigure(
        spec, svgs[0], _size_in_pixels(wide), svgs[1], _size_in_pixels(narrow), pixels
    )


def _size_in_pixels(figure: Figure) -> tuple[int, int]:
    width, height = (_PIXELS_PER_INCH * figure.get_size_inches()).round().astype(int).tolist()
    return width, height


def create_panels(
    wide: bool, count: int, *, columns: tuple[int, int], height: float, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Creates a figure of `count` empty panels.

    **Arguments:**

    - `wide`: whether the figure is for a wide page.
    - `count`: number of panels.
    - `columns`: maximum number of columns on a wide page and on a phone.
    - `height`: height of a row in CSS pixels.
    - `options`: options of `Figure.subplots`.
    """
    width = WIDE_WIDTH if wide else NARROW_WIDTH
    num_columns = min(columns[0 if wide else 1], count)
    num_rows = -(-count // num_columns)
    size = (width / _PIXELS_PER_INCH, num_rows * height / _PIXELS_PER_INCH)
    layout = ConstrainedLayoutEngine(h_pad=8 / _PIXELS_PER_INCH, w_pad=4 / _PIXELS_PER_INCH)
    figure = Figure(figsize=size, dpi=_PIXELS_PER_INCH, layout=layout)
    axes = figure.subplots(num_rows, num_columns, squeeze=False, **options).ravel().tolist()
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


def plot_dots(
    axes: Axes,
    positions: np.ndarray,
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    *,
    series: int,
    label: str,
) -> None:
    """Plots values as dots along rows, and their intervals as lines."""
    colour, marker = SERIES_STYLES[series % len(SERIES_STYLES)]
    for position, interval in zip(positions, intervals, strict=True):
        if interval is not None:
            axes.plot(
                interval, (position, position), color=colour, linewidth=1.6, solid_capstyle="butt"
            )
    axes.plot(values, positions, marker, color=colour, markersize=6, label=label)


def label_rows(axes: Axes, names: Sequence[str]) -> None:
    """Labels the rows of the y axis, the first on top."""
    axes.set_yticks(range(len(names)), [score_names.truncate(name, 26) for name in names])
    axes.tick_params(axis="y", labelcolor=TEXT)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)


def draw_cells(axes: Axes, fractions: np.ndarray, texts: np.ndarray, size: float) -> None:
    """Draws a matrix of shaded cells with a text in each.

    **Arguments:**

    - `fractions`: float [R, C] in [0, 1], the shade.
    - `texts`: str [R, C].
    - `size`: font size.
    """
    axes.grid(False)
    axes.pcolormesh(fractions, cmap=COLORMAP, vmin=0, vmax=1, edgecolors="#ffffff", linewidth=0.8)
    axes.invert_yaxis()
    for spine in axes.spines.values():
        spine.set_visible(False)
    for (row, column), text in np.ndenumerate(texts):
        colour = _readable_text_colour(np.asarray(COLORMAP(fractions[row, column])))
        position = (column + 0.5, row + 0.5)
        axes.text(*position, text, ha="center", va="center", fontsize=size, color=colour)


def _readable_text_colour(colour: np.ndarray) -> str:
    """Returns white or black, whichever has more contrast (WCAG 2.1): always 4.5 to 1 or more."""
    channels = colour[:3]
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#ffffff" if linear @ (0.2126, 0.7152, 0.0722) < 0.18 else CELL_TEXT


def encode_jpeg(image: np.ndarray, side: int, quality: int = 82) -> str:
    """Encodes a face as a JPEG data URI.

    **Arguments:**

    - `image`: uint8 [S, S, 3].
    - `side`: side length of the JPEG in pixels; smaller images keep their size.
    - `quality`: JPEG quality, up to 95.
    """
    face = Image.fromarray(image)
    if len(image) > side:
        face = face.resize((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    face.save(buffer, "JPEG", quality=quality)
    return encode_data_uri(buffer.getvalue(), "image/jpeg")


def encode_data_uri(content: bytes, mime_type: str) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(content).decode()}"


def render_pixels(figure: Figure) -> np.ndarray:
    """Renders a figure on white: uint8 [H, W, 3], two pixels per CSS pixel."""
    figure.set_dpi(2 * _PIXELS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def encode_png(pixels: np.ndarray) -> bytes:
    """Encodes an image, uint8 [H, W, 3], as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _render_svg(figure: Figure) -> str:
    """Renders a figure as an SVG data URI without background, with text in the reader's font."""
    buffer = io.StringIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": None}  # reproducible files
    figure.savefig(buffer, format="svg", facecolor="none", metadata=metadata, dpi=144)
    text = buffer.getvalue()
    start = text.index("<svg")
    dark_rules = "".join(
        f'[style*="{paint}: {light}"]{{{paint}:{dark}!important}}'
        for light, dark in DARK_MODE.items()
        for paint in ("fill", "stroke")
    )
    style = (
        "<style>text{font-family:system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',"
        f"sans-serif!important}}@media(prefers-color-scheme:dark){{{dark_rules}}}</style>"
    )
    end = text.index(">", start) + 1
    return encode_data_uri((text[start:end] + style + text[end:]).encode(), "image/svg+xml")
