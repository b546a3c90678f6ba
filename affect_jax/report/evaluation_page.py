"""Report of a checkpoint's evaluation: a page of scores, example faces and Grad-CAM."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib

from affect_jax.evaluate.checkpoint_evaluation import Evaluation
from affect_jax.evaluate.grad_cam import grad_cam
from affect_jax.report import example_faces, run_page, runs
from affect_jax.train import log_writers


def write_report(evaluation: Evaluation) -> pathlib.Path:
    """Writes the report into the evaluation's folder and returns the path of its page.

    The figures go to a separate TensorBoard folder. TensorBoard stops reading the events of a run
    that is still training if a newer event file appears in the same folder.
    """
    predictions, evaluator = evaluation.predictions, evaluation.evaluator
    loaded_run = evaluation.trained
    rows = example_faces.select_gallery_faces(predictions)
    grad_cam_examples: list[runs.GradCamExample] = []
    example_rows = [
        int(row) for group in example_faces.select_examples(predictions).values() for row in group
    ]
    if example_rows and predictions.probabilities is not None:
        faces, heatmaps = grad_cam(
            loaded_run.network.model,
            loaded_run.variables,
            evaluator.load_faces(example_rows),
            predictions.probabilities[example_rows].argmax(axis=1),
            crop_size=loaded_run.network.crop_size,
        )
        examples = zip(example_rows, faces, heatmaps, strict=True)
        grad_cam_examples = [runs.GradCamExample(*example) for example in examples]
    face_images = dict(zip(rows, evaluator.load_faces(rows), strict=True))
    run = dataclasses.replace(
        runs.read_run(evaluation.folder), faces=face_images, grad_cam_examples=grad_cam_examples
    )
    with contextlib.closing(
        log_writers.TensorBoardWriter(evaluation.folder / "tensorboard")
    ) as writer:
        return run_page.write_report(run, evaluation.folder, writer=writer)
