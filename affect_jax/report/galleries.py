"""Faces of a report: confident mistakes, uncertain faces, large errors, and Grad-CAM examples."""

from __future__ import annotations

from typing import NamedTuple

import matplotlib
import numpy as np

from affect_jax.core import plotting
from affect_jax.metrics.predictions import Predictions
from affect_jax.report import score_names
from affect_jax.report.runs import Run

FACES_PER_GALLERY = 12
EXAMPLES_PER_CLASS = 3
OPACITY = 0.62  # of a heatmap where it is 1


class Face(NamedTuple):
    """A face with its prediction.

    **Arguments:**

    - `id`, `prediction`, `label`: texts.
    - `image`: uint8 [S, S, 3]; None if there is no image.
    - `overlay`: the image below a heatmap, if there is one.
    """

    id: str
    prediction: str
    label: str
    image: np.ndarray | None
    overlay: np.ndarray | None = None


def create_galleries(run: Run) -> dict[str, list[Face]]:
    """Returns the faces of each gallery that has faces, by name of the gallery."""
    mistakes = select_confident_mistakes(run.predictions)
    uncertain = select_uncertain(run.predictions)
    far_off = select_largest_errors(run.predictions)
    galleries = {
        "confident_mistakes": [_describe_expression(run, row) for row in mistakes],
        "uncertain_faces": [_describe_expression(run, row) for row in uncertain],
        "far_off_faces": [_describe_axes(run, row) for row in far_off],
    }
    return {name: faces for name, faces in galleries.items() if faces}


def create_grad_cam_examples(run: Run) -> dict[str, list[Face]]:
    """Returns the faces with Grad-CAM by class of their label."""
    examples: dict[str, list[Face]] = {}
    labels = run.predictions.expression
    for row, image, heatmap in run.grad_cam_examples:
        assert labels is not None
        face = _describe_expression(run, row)
        face = face._replace(image=image, overlay=overlay_heatmap(image, heatmap))
        examples.setdefault(run.predictions.classes[labels[row]], []).append(face)
    return examples


def draw_sheets(run: Run) -> dict[str, np.ndarray]:
    """Draws one image per gallery and one of the Grad-CAM examples, by file name."""
    examples = [face for faces in create_grad_cam_examples(run).values() for face in faces]
    sheets = {}
    for name, faces in {**create_galleries(run), "grad_cam": examples}.items():
        shown = [
            (image, f"{face.prediction}\n{face.label}")
            for face in faces
            for image in (face.image, face.overlay)
            if image is not None
        ]
        if shown:
            images, captions = zip(*shown, strict=True)
            sheets[name] = plotting.draw_faces(images, captions)
    return sheets


def _describe_expression(run: Run, row: int) -> Face:
    """Describes a face's prediction and its label, each with its probability."""
    predictions = run.predictions
    assert predictions.expression is not None and predictions.probabilities is not None
    probabilities, label = predictions.probabilities[row], predictions.expression[row]
    best = probabilities.argmax()
    texts = [f"{predictions.classes[i]} {probabilities[i]:.2f}" for i in (best, label)]
    text = "as labelled" if label == best else f"label {texts[1]}"
    return Face(str(predictions.id[row]), texts[0], text, run.faces.get(int(row)))


def _describe_axes(run: Run, row: int) -> Face:
    """Describes a face's predicted valence and arousal and its label."""
    labels, predicted = run.predictions.valence_arousal, run.predictions.valence_arousal_predicted
    assert labels is not None and predicted is not None
    prediction, label = (
        ", ".join(score_names.format_difference(value, 2) for value in pair)
        for pair in (predicted[row], labels[row])
    )
    return Face(str(run.predictions.id[row]), prediction, f"label {label}", run.faces.get(int(row)))


def select_confident_mistakes(predictions: Predictions) -> np.ndarray:
    """Selects rows of wrong predictions, the most confident first: int64 [K]."""
    labelled, predicted, confidence = _expression_predictions(predictions)
    wrong = labelled & (predicted != predictions.expression)
    return _smallest(np.flatnonzero(wrong), -confidence)


def select_uncertain(predictions: Predictions) -> np.ndarray:
    """Selects labelled rows with the lowest confidence: int64 [K]."""
    labelled, _, confidence = _expression_predictions(predictions)
    return _smallest(np.flatnonzero(labelled), confidence)


def select_largest_errors(predictions: Predictions) -> np.ndarray:
    """Selects rows with the largest distance between labelled and predicted valence and arousal."""
    if predictions.valence_arousal is None or predictions.valence_arousal_predicted is None:
        return np.zeros(0, np.int64)
    error = np.linalg.norm(
        predictions.valence_arousal_predicted - predictions.valence_arousal, axis=1
    )
    return _smallest(np.flatnonzero(np.isfinite(error)), -error)


def select_examples(predictions: Predictions) -> dict[str, np.ndarray]:
    """Selects rows of each class, evenly spaced in rank from the highest to the lowest probability.

    **Returns:** rows by class name: int64, at most `EXAMPLES_PER_CLASS`. Classes without a labelled
    face are left out.
    """
    examples = {}
    if predictions.probabilities is None or predictions.expression is None:
        return examples
    for label, name in enumerate(predictions.classes):
        rows = np.flatnonzero(predictions.expression == label)
        if len(rows):
            ranked = rows[np.argsort(-predictions.probabilities[rows, label], kind="stable")]
            places = (
                np.linspace(0, len(rows) - 1, min(EXAMPLES_PER_CLASS, len(rows)))
                .round()
                .astype(int)
            )
            examples[name] = ranked[places]
    return examples


def select_gallery_faces(predictions: Predictions) -> list[int]:
    """Selects all rows of the galleries, ascending."""
    selections = (select_confident_mistakes, select_uncertain, select_largest_errors)
    return sorted({int(row) for select in selections for row in select(predictions)})


def _expression_predictions(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns whether each face is labelled, its most probable class and its confidence: [N]."""
    if predictions.probabilities is None or predictions.expression is None:
        unlabelled = np.zeros(len(predictions), bool)
        return unlabelled, unlabelled.astype(np.int64), unlabelled.astype(float)
    best = predictions.probabilities.argmax(axis=1)
    return predictions.expression >= 0, best, predictions.probabilities.max(axis=1)


def _smallest(rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Returns `FACES_PER_GALLERY` rows with the smallest keys; ties go to the earlier row."""
    return rows[np.argsort(keys[rows], kind="stable")][:FACES_PER_GALLERY]


def overlay_heatmap(face: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Overlays a heatmap in warm colours on a face.

    **Arguments:**

    - `face`: uint8 [S, S, 3].
    - `heatmap`: float [S, S] in [0, 1].
    """
    colours = matplotlib.colormaps["inferno"](heatmap)[..., :3]
    opacity = OPACITY * heatmap[..., None]
    return ((1 - opacity) * face + opacity * 255 * colours).round().astype(np.uint8)
