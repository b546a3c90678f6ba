"""The report of a checkpoint's evaluation: the page of its scores, with faces and Grad-CAM."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib

from affect_jax.evaluate.checkpoint import Evaluation
from affect_jax.evaluate.grad_cam import grad_cam
from affect_jax.report import example_faces, page, runs
from affect_jax.train import loggers


def write(evaluation: Evaluation) -> pathlib.Path:
    """Writes the report into the evaluation's folder and returns the path of its page.

    The figures go to a TensorBoard folder of their own: a new event file beside those of a run
    that is still training would end what TensorBoard reads of that run.
    """
    table, evaluator, trained = evaluation.predictions, evaluation.evaluator, evaluation.trained
    rows = example_faces.shown(table)
    explanations: list[runs.Explanation] = []
    examples = [int(row) for group in example_faces.examples(table).values() for row in group]
    if examples and table.probabilities is not None:
        faces, heat = grad_cam(
            trained.network.model,
            trained.variables,
            evaluator.faces(examples),
            table.probabilities[examples].argmax(axis=1),
            crop_size=trained.network.crop_size,
        )
        explanations = [runs.Explanation(*e) for e in zip(examples, faces, heat, strict=True)]
    pictures = dict(zip(rows, evaluator.faces(rows), strict=True))
    run = dataclasses.replace(
        runs.read(evaluation.folder), faces=pictures, explanations=explanations
    )
    with contextlib.closing(loggers.TensorBoardWriter(evaluation.folder / "tensorboard")) as writer:
        return page.write(run, evaluation.folder, writer=writer)
