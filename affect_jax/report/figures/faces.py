"""Faces as images: sheets of thumbnails, and what Grad-CAM says laid over a face."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from affect_jax.report.plotting import pixels_of

OPACITY = 0.62  # of the warmest place


def overlay(face: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The face with warm colours where the heat is.

    **Arguments:**

    - `face`: uint8 [S, S, 3].
    - `heat`: float [S, S] in [0, 1].
    """
    colours = matplotlib.colormaps["inferno"](heat)[..., :3]
    share = OPACITY * heat[..., None]
    return ((1 - share) * face + share * 255 * colours).round().astype(np.uint8)


def warmest(heat: np.ndarray) -> str:
    """In words, where the heat's centre of mass is: `upper middle`, `lower left`, ..."""
    if not heat.any():
        return "nowhere"
    places = np.arange(len(heat)) + 0.5
    down = float(heat.sum(axis=1) @ places / heat.sum() / len(heat))
    across = float(heat.sum(axis=0) @ places / heat.sum() / len(heat))
    row = "upper" if down < 0.42 else "lower" if down > 0.58 else "middle"
    column = "left" if across < 0.42 else "right" if across > 0.58 else "middle"
    return row if row == column else f"{row} {column}"


def sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int) -> np.ndarray:
    """Faces side by side, each with its caption above: uint8 [H, W, 3]."""
    down = -(-len(images) // columns)
    figure = Figure(figsize=(columns * 1.6, down * 2.0))
    figure.subplots_adjust(0.01, 0.005, 0.99, 1 - 0.3 / (2.0 * down), wspace=0.04, hspace=0.3)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True), start=1):
        axes = figure.add_subplot(down, columns, place)
        axes.imshow(image)
        axes.set_axis_off()
        axes.set_title(caption, fontsize=7, loc="center", pad=3)
    return pixels_of(figure)
