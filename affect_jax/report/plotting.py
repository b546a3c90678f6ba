"""How figures look, and how one becomes SVG for a page, PNG for a file and pixels for TensorBoard.

A figure is drawn twice: for a wide page and for a phone, where panels stand below one another and
the letters keep their size. Lengths are CSS pixels. Colours are Okabe and Ito's, told apart by
colour-blind readers; shape or place always says the same a second time.
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

INK, MUTED, RULE = "#1c2128", "#5b6572", "#d4dae1"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#c84e00", "#007a5a", "#a3548a"
SERIES = ((BLUE, "o"), (ORANGE, "D"), (GREEN, "s"), (PURPLE, "^"))
"""Colours and markers of runs, and of Orig and Norm."""

CELL_INK = "#000000"  # on coloured cells, whose shade no dark page changes
DARK = {INK: "#e8ebef", MUTED: "#a5afbb", RULE: "#3b444e"}
DARK |= {BLUE: "#5db3e8", ORANGE: "#f08a4b", GREEN: "#3fbf97", PURPLE: "#d48fbd"}
"""What each colour of a line or letter becomes where the reader prefers dark pages."""

SHADES = LinearSegmentedColormap.from_list("shades", ["#f3f6f9", "#8dbbdb", BLUE, "#012f4f"])
"""One hue from light to dark: more is darker, in grey print too."""

WIDE, NARROW = 900, 350
_PIXELS_PER_INCH = 72  # so that a point is a CSS pixel
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 11.5,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titlepad": 8,
    "figure.dpi": _PIXELS_PER_INCH,
    "font.family": "DejaVu Sans",
    "font.size": 11.5,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.fontsize": 11.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "affect_jax",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelsize": 11,
    "xtick.major.size": 0,
    "ytick.color": MUTED,
    "ytick.labelsize": 11,
    "ytick.major.size": 0,
}


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure that is not drawn yet.

    **Arguments:**

    - `name`: of its file, and in TensorBoard.
    - `title`: what it is of.
    - `alt`: what it shows, for those who do not see it.
    - `note`: how to read it.
    - `draw`: whether the page is wide -> the figure.
    """

    name: str
    title: str
    alt: str
    note: str
    draw: Callable[[bool], Figure]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A drawn figure: data URIs of SVG with (width, height) in CSS pixels, and pixels."""

    drawing: Drawing
    wide: str
    wide_size: tuple[int, int]
    narrow: str
    narrow_size: tuple[int, int]
    pixels: np.ndarray  # uint8 [H, W, 3], two pixels a CSS pixel


def picture(drawing: Drawing) -> Picture:
    """Draws the figure for all its uses."""
    with matplotlib.rc_context(_STYLE):
        wide, narrow = drawing.draw(True), drawing.draw(False)
        svgs = [_svg(wide), _svg(narrow)]
        wide.set_layout_engine("none")  # everything has its place now, finding it took longest
        pixels = pixels_of(wide)
    return Picture(drawing, svgs[0], _size(wide), svgs[1], _size(narrow), pixels)


def _size(figure: Figure) -> tuple[int, int]:
    width, height = (_PIXELS_PER_INCH * figure.get_size_inches()).round().astype(int).tolist()
    return width, height


def panels(
    wide: bool, count: int, *, columns: tuple[int, int], height: float, **options: Any
) -> tuple[Figure, list[Axes]]:
    """An empty figure of `count` panels.

    **Arguments:**

    - `columns`: on a wide page, on a phone.
    - `height`: of a row, CSS pixels.
    - `options`: `Figure.subplots`'s.
    """
    width = WIDE if wide else NARROW
    across = min(columns[0 if wide else 1], count)
    down = -(-count // across)
    size = (width / _PIXELS_PER_INCH, down * height / _PIXELS_PER_INCH)
    layout = ConstrainedLayoutEngine(h_pad=8 / _PIXELS_PER_INCH, w_pad=4 / _PIXELS_PER_INCH)
    figure = Figure(figsize=size, dpi=_PIXELS_PER_INCH, layout=layout)
    axes = figure.subplots(down, across, squeeze=False, **options).ravel().tolist()
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


def dots(
    axes: Axes,
    places: np.ndarray,
    values: Sequence[float],
    ends: Sequence[tuple[float, float] | None],
    *,
    series: int,
    label: str,
) -> None:
    """Values as dots along rows, with a line from end to end of each one's interval."""
    colour, marker = SERIES[series % len(SERIES)]
    for place, end in zip(places, ends, strict=True):
        if end is not None:
            axes.plot(end, (place, place), color=colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot(values, places, marker, color=colour, markersize=6, label=label)


def rows(axes: Axes, names: Sequence[str]) -> None:
    """Names one below another, the first on top, with a line for the eye."""
    axes.set_yticks(range(len(names)), [score_names.short(name, 26) for name in names])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)


def cells(axes: Axes, shares: np.ndarray, texts: np.ndarray, size: float) -> None:
    """A matrix of shaded cells with a text in each.

    **Arguments:**

    - `shares`: float [R, C] in [0, 1], the shade.
    - `texts`: str [R, C].
    - `size`: of the letters.
    """
    axes.grid(False)
    axes.pcolormesh(shares, cmap=SHADES, vmin=0, vmax=1, edgecolors="#ffffff", linewidth=0.8)
    axes.invert_yaxis()
    for spine in axes.spines.values():
        spine.set_visible(False)
    for (row, column), text in np.ndenumerate(texts):
        colour = _readable_on(np.asarray(SHADES(shares[row, column])))
        place = (column + 0.5, row + 0.5)
        axes.text(*place, text, ha="center", va="center", fontsize=size, color=colour)


def _readable_on(colour: np.ndarray) -> str:
    """White or black, whichever differs more in luminance (WCAG 2.1): always 4.5 to 1 or more."""
    channels = colour[:3]
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#ffffff" if linear @ (0.2126, 0.7152, 0.0722) < 0.18 else CELL_INK


def jpeg(image: np.ndarray, side: int, quality: int = 82) -> str:
    """A face as a data URI.

    **Arguments:**

    - `image`: uint8 [S, S, 3].
    - `side`: of the JPEG, pixels; a smaller image keeps its size.
    """
    face = Image.fromarray(image)
    if len(image) > side:
        face = face.resize((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    face.save(buffer, "JPEG", quality=quality)
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def pixels_of(figure: Figure) -> np.ndarray:
    """uint8 [H, W, 3], two pixels a CSS pixel, on white."""
    figure.set_dpi(2 * _PIXELS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def png(pixels: np.ndarray) -> bytes:
    """The file of an image, uint8 [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _svg(figure: Figure) -> str:
    """The figure without background, its letters as text in the reader's own font."""
    buffer = io.StringIO()
    unsigned: dict[str, Any] = {"Date": None, "Creator": None}  # equal figures, equal files
    figure.savefig(buffer, format="svg", facecolor="none", metadata=unsigned, dpi=144)
    text = buffer.getvalue()
    start = text.index("<svg")
    dark = "".join(
        f'[style*="{paint}: {light}"]{{{paint}:{other}!important}}'
        for light, other in DARK.items()
        for paint in ("fill", "stroke")
    )
    style = (
        "<style>text{font-family:system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',"
        f"sans-serif!important}}@media(prefers-color-scheme:dark){{{dark}}}</style>"
    )
    end = text.index(">", start) + 1
    return data_uri((text[start:end] + style + text[end:]).encode(), "image/svg+xml")
