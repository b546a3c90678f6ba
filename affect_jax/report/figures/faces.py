"""Images of faces: contact sheets and Grad-CAM overlays."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from affect_jax.report.plotting import render_pixels

OPACITY = 0.62  # opacity of the overlay where the heatmap is 1


def overlay_heatmap(face: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Overlays a heatmap in warm colours on a face.

    **Arguments:**

    - `face`: uint8 [S, S, 3].
    - `heatmap`: float [S, S] in [0, 1].
    """
    colours = matplotlib.colormaps["inferno"](heatmap)[..., :3]
    opacity = OPACITY * heatmap[..., None]
    return ((1 - opacity) * face + opacity * 255 * colours).round().astype(np.uint8)


def describe_warmest_region(heatmap: np.ndarray) -> str:
    """Describes the position of the heatmap's centre of mass: `upper middle`, `lower left`, ..."""
    if not heatmap.any():
        return "nowhere"
    centres = np.arange(len(heatmap)) + 0.5
    down = float(heatmap.sum(axis=1) @ centres / heatmap.sum() / len(heatmap))
    across = float(heatmap.sum(axis=0) @ centres / heatmap.sum() / len(heatmap))
    row = "upper" if down < 0.42 else "lower" if down > 0.58 else "middle"
    column = "left" if across < 0.42 else "right" if across > 0.58 else "middle"
    return row if row == column else f"{row} {column}"


def create_contact_sheet(
    images: Sequence[np.ndarray], captions: Sequence[str], columns: int
) -> np.ndarray:
    """Arranges faces in a grid, each with its caption above: uint8 [H, W, 3]."""
    num_rows = -(-len(images) // columns)
    figure = Figure(figsize=(columns * 1.6, num_rows * 2.0))
    figure.subplots_adjust(0.01, 0.005, 0.99, 1 - 0.3 / (2.0 * num_rows), wspace=0.04, hspace=0.3)
    for index, (image, caption) in enumerate(zip(images, captions, strict=True), start=1):
        axes = figure.add_subplot(num_rows, columns, index)
        axes.imshow(image)
        axes.set_axis_off()
        axes.set_title(caption, fontsize=7, loc="center", pad=3)
    return render_pixels(figure)
