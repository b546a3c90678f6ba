"""Report of a checkpoint's evaluation: a page of scores, example faces and Grad-CAM."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from affect_jax.evaluate.checkpoint_evaluation import Evaluation
from affect_jax.evaluate.grad_cam import grad_cam
from affect_jax.report import galleries, run_page, runs


def write_report(evaluation: Evaluation) -> pathlib.Path:
    """Writes the report into the evaluation's folder and returns the path of its page."""
    predictions, network = evaluation.predictions, evaluation.trained.network
    load_faces = evaluation.evaluator.load_faces
    rows = sorted({int(i) for rows in galleries.select_faces(predictions).values() for i in rows})
    faces = dict(zip(rows, load_faces(rows), strict=True))
    run = dataclasses.replace(runs.read_run(evaluation.folder), faces=faces)
    if examples := galleries.select_examples(predictions):
        assert predictions.probabilities is not None
        pairs = grad_cam(
            network.model,
            evaluation.trained.variables,
            load_faces(examples),
            np.take(evaluation.columns, predictions.probabilities[examples].argmax(axis=1)),
            crop_size=network.crop_size,
        )
        explained = dict(zip(examples, zip(*pairs, strict=True), strict=True))
        run = dataclasses.replace(run, grad_cam=explained)
    return run_page.write_report(run, evaluation.folder)
