"""Faces of a report: confident mistakes, uncertain faces, large errors, and Grad-CAM examples."""

from __future__ import annotations

import matplotlib
import numpy as np

from affect_jax.metrics.predictions import Predictions
from affect_jax.report import score_names
from affect_jax.report.figures import select_classes
from affect_jax.report.runs import Run
from affect_jax.report.templating import MACROS

FACES_PER_GALLERY = 12
EXAMPLES_PER_CLASS = 3
OPACITY = 0.62  # of a heatmap where it is 1

MISTAKES, UNCERTAIN = "Most confident mistakes", "Least certain faces"
LARGE_ERRORS = "Largest errors of valence and arousal"
EXPLANATIONS = {
    MISTAKES: "Wrong predictions with the highest confidence. Faces with a wrong label also "
    "appear here.",
    UNCERTAIN: "Faces with the lowest probability of the most probable class.",
    LARGE_ERRORS: "Faces with the largest distance between label and prediction.",
}
"""The galleries and how their faces are selected."""


def list_faces(run: Run) -> list[str]:
    """Returns the blocks of a page with the galleries that have faces."""
    blocks = []
    for name, rows in select_faces(run.predictions).items():
        describe = _describe_axes if name == LARGE_ERRORS else _describe_expression
        faces = [
            MACROS.face(*describe(run.predictions, i), run.faces.get(i)) for i in rows.tolist()
        ]
        if faces:
            explanation = MACROS.paragraph(EXPLANATIONS[name])
            blocks += [MACROS.heading(name), explanation, MACROS.gallery(faces)]
    if blocks and not run.faces:
        text = "No images of these faces are available; only their ids are listed."
        blocks.insert(0, MACROS.paragraph(text))
    return blocks


def list_grad_cam_examples(run: Run) -> list[str]:
    """Returns the blocks of a page with the faces with Grad-CAM, by class of their label."""
    table, examples = run.predictions, {}
    for row, (image, heatmap) in run.grad_cam.items():
        assert table.expression is not None
        texts = _describe_expression(table, row)
        face = MACROS.face(*texts, image, overlay_heatmap(image, heatmap))
        examples.setdefault(table.classes[table.expression[row]], []).append(face)
    text = (
        "Grad-CAM (Selvaraju et al. 2017) of the predicted class: warm regions support the "
        "prediction. For each class, the faces with the highest, the median and the lowest "
        "probability of their label."
    )
    blocks = [MACROS.paragraph(text)] if examples else []
    for name, faces in examples.items():
        blocks += [MACROS.heading(name), MACROS.gallery(faces, pairs=True)]
    return blocks


def _describe_expression(predictions: Predictions, row: int) -> tuple[str, str, str]:
    """Returns a face's id, its prediction and its label, each with its probability."""
    assert predictions.expression is not None and predictions.probabilities is not None
    probabilities, label = predictions.probabilities[row], predictions.expression[row]
    best = probabilities.argmax()
    texts = [f"{predictions.classes[i]} {probabilities[i]:.2f}" for i in (best, label)]
    text = "as labelled" if label == best else f"label {texts[1]}"
    return str(predictions.id[row]), texts[0], text


def _describe_axes(predictions: Predictions, row: int) -> tuple[str, str, str]:
    """Returns a face's id, its predicted valence and arousal, and its label."""
    labels, predicted = predictions.valence_arousal, predictions.valence_arousal_predicted
    assert labels is not None and predicted is not None
    prediction, label = (
        ", ".join(score_names.format_difference(value, 2) for value in pair)
        for pair in (predicted[row], labels[row])
    )
    return str(predictions.id[row]), prediction, f"label {label}"


def select_faces(predictions: Predictions) -> dict[str, np.ndarray]:
    """Selects at most `FACES_PER_GALLERY` rows for each gallery: int64 [K], the most extreme first.

    A table without predictions of a model lacks the galleries of that model.
    """
    keys = {}  # ascending; NaN excludes a face
    if predictions.probabilities is not None and predictions.expression is not None:
        confidence = predictions.probabilities.max(axis=1)
        labelled = predictions.expression >= 0
        wrong = labelled & (predictions.probabilities.argmax(axis=1) != predictions.expression)
        keys[MISTAKES] = np.where(wrong, -confidence, np.nan)
        keys[UNCERTAIN] = np.where(labelled, confidence, np.nan)
    labels, predicted = predictions.valence_arousal, predictions.valence_arousal_predicted
    if labels is not None and predicted is not None:
        keys[LARGE_ERRORS] = -np.linalg.norm(predicted - labels, axis=1)
    selected = {}
    for name, values in keys.items():
        rows = np.argsort(values, kind="stable")[:FACES_PER_GALLERY]  # NaN is last
        selected[name] = rows[~np.isnan(values[rows])]
    return selected


def select_examples(predictions: Predictions) -> list[int]:
    """Selects rows of each class of `select_classes`: at most `EXAMPLES_PER_CLASS`.

    They are evenly spaced in rank from the highest to the lowest probability of the class.
    """
    if predictions.probabilities is None or predictions.expression is None:
        return []
    examples: list[int] = []
    for label in select_classes(predictions):
        rows = np.flatnonzero(predictions.expression == label)
        ranked = rows[np.argsort(-predictions.probabilities[rows, label], kind="stable")]
        places = np.linspace(0, len(rows) - 1, min(EXAMPLES_PER_CLASS, len(rows)))
        examples += ranked[places.round().astype(int)].tolist()
    return examples


def overlay_heatmap(face: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Overlays a heatmap in warm colours on a face.

    **Arguments:**

    - `face`: uint8 [S, S, 3].
    - `heatmap`: float [S, S] in [0, 1].
    """
    colours = matplotlib.colormaps["inferno"](heatmap)[..., :3]
    opacity = OPACITY * heatmap[..., None]
    return ((1 - opacity) * face + opacity * 255 * colours).round().astype(np.uint8)
