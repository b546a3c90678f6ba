"""Pictures for TensorBoard: the confusion matrix, faces and what was said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from affect_jax.core.labels import AXES
from affect_jax.facs.action_units import ACTIVE
from affect_jax.metrics.confusion import shares
from affect_jax.metrics.predictions import Predictions


def confusion_image(table: Predictions, size: float = 5.0) -> np.ndarray:
    """The confusion matrix of the annotated faces, rows sum to one: uint8 [H, W, 3].

    A row without faces is empty.
    """
    assert table.expression is not None and table.probabilities is not None
    rows = table.expression >= 0
    count = len(table.classes)
    cells = table.expression[rows] * count + table.probabilities[rows].argmax(axis=1)
    matrix = np.bincount(cells, minlength=count**2).reshape(count, count)
    share = shares(matrix)
    figure = _figure(size, size)
    axes = figure.add_subplot(xlabel="predicted", ylabel="label")
    axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks(range(count), table.classes, rotation=45, ha="right")
    axes.set_yticks(range(count), table.classes)
    for i, j in np.ndindex(count, count):
        shade = "black" if share[i, j] > 0.5 else "white"
        if matrix[i].any():
            axes.text(j, i, f"{share[i, j]:.2f}", ha="center", va="center", color=shade, fontsize=8)
    return _pixels(figure)


def face_panel(
    images: np.ndarray,
    landmarks: np.ndarray,
    sides: np.ndarray,
    table: Predictions,
    rows: np.ndarray,
    columns: int = 4,
) -> np.ndarray:
    """Faces with their points and, under each, what is true and what was predicted.

    **Arguments:**

    - `images`: uint8 [n, S, S, 3].
    - `landmarks`: float [n, 68, 2], pixels of `images`; zeros where a face has none.
    - `sides`: float [n, 2, 18], true intensities of the picture's left and right side; zeros where
      they are unknown.
    - `rows`: int [n], the faces' places in `table`.

    **Returns:** uint8 [H, W, 3].
    """
    lines = -(-len(rows) // columns)
    figure = _figure(2.2 * columns, 2.9 * lines)
    faces = zip(rows, images, landmarks, sides, strict=True)
    for place, (row, image, points, uneven) in enumerate(faces):
        axes = figure.add_subplot(lines, columns, place + 1)
        axes.imshow(image)
        if points.any():
            axes.scatter(points[:, 0], points[:, 1], s=2, c="#7fffd4", linewidths=0)
        axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel("\n".join(_said(table, row, uneven)), fontsize=7, family="monospace")
    return _pixels(figure)


def _said(table: Predictions, row: int, sides: np.ndarray) -> list[str]:
    """Lines like `happiness: neutral .61` or `valence +.40: +.33`: the label first."""
    lines = []
    if table.probabilities is not None and table.expression is not None:
        likely = int(table.probabilities[row].argmax())
        label = table.expression[row]
        true = table.classes[label] if label >= 0 else "none"
        lines.append(f"{true}: {table.classes[likely]} {table.probabilities[row, likely]:.2f}")
    if table.valence_arousal is not None and table.valence_arousal_predicted is not None:
        true, said = table.valence_arousal[row], table.valence_arousal_predicted[row]
        lines += [f"{axis} {_number(true[i])}: {said[i]:+.2f}" for i, axis in enumerate(AXES)]
    if table.action_units is not None and table.action_units_predicted is not None:
        true, said = table.action_units[row], table.action_units_predicted[row]
        letters = [one_side(*pair) for pair in sides.T]
        names = [f"{letter}{unit}" for letter, unit in zip(letters, table.units, strict=True)]
        lines += [f"AU {_active(names, true)}", f"-> {_active(table.units, said)}"]
    return lines


def one_side(left: float, right: float) -> str:
    """FACS's letter of a unit that is active on one side of the person alone: `L`, `R`, else none.

    **Arguments:**

    - `left`, `right`: intensities on the picture's sides, which are the person's right and left.
    """
    strong, weak = max(left, right), min(left, right)
    if strong < ACTIVE or weak >= ACTIVE / 2:
        return ""
    return "R" if left == strong else "L"


def _active(names: Sequence[object], values: np.ndarray) -> str:
    active = [str(name) for name, value in zip(names, values, strict=True) if value >= ACTIVE]
    return "+".join(active) or "none"


def _number(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:+.2f}"


def _figure(width: float, height: float) -> Any:
    """An empty figure, inches; drawn without pyplot, which would keep it."""
    from matplotlib.figure import Figure  # a second that `--help` need not wait for

    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def _pixels(figure: Any) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
