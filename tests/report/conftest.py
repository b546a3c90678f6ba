"""An evaluated run: seeded predictions of a mediocre model, faces, curves and Grad-CAM."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from affect_jax.config import defaults, to_dict, variant
from affect_jax.core.labels import classes
from affect_jax.facs.action_units import PROTOTYPES, UNITS
from affect_jax.metrics import protocol, protocol_matrix
from affect_jax.metrics.predictions import Predictions, write_predictions
from affect_jax.report import galleries, run_page, runs
from affect_jax.report.runs import Run

HOSTILE = """<script>alert("x")</script>&'.jpg"""
"""A file name that would be a script in a page without escaping."""

HOSTILE_ROW = 5  # the row of the face with this name

PLACES = np.array(
    [
        (0, 0),
        (0.7, 0.2),
        (-0.6, -0.4),
        (0.1, 0.8),
        (-0.3, 0.8),
        (-0.7, 0.3),
        (-0.5, 0.7),
        (-0.4, 0.2),
    ]
)


def create_predictions(count: int = 240, seed: int = 0, skill: float = 1.0) -> Predictions:
    """Labels do not depend on `skill`; one face in twenty has no expression, some have no axes."""
    random = np.random.default_rng(seed)
    shares = (0.2, 0.27, 0.1, 0.1, 0.07, 0.07, 0.1, 0.04, 0.05)
    expression = random.choice([*range(8), -1], count, p=shares)
    expression[:8] = range(8)
    logits = random.normal(0, 1, (count, 8))
    logits[np.arange(count), expression] += 2 * skill
    logits[HOSTILE_ROW] = 0  # the least certain face, so that the page shows it
    probabilities = np.exp(logits)
    axes = np.clip(PLACES[expression] + random.normal(0, 0.2, (count, 2)), -1, 1)
    axes_predicted = np.clip(0.7 * axes + random.normal(0, 0.2, (count, 2)) / skill, -1, 1)
    axes[::23] = np.nan
    units = np.zeros((count, len(UNITS)))
    for i, name in enumerate(classes(8)):
        if name in PROTOTYPES:
            units[np.ix_(expression == i, np.isin(UNITS, PROTOTYPES[name]))] = 0.8
    identifiers = np.array([f"validation/{i:07d}" for i in range(count)], dtype="U64")
    identifiers[HOSTILE_ROW] = HOSTILE
    return Predictions(
        id=identifiers,
        classes=classes(8),
        expression=expression.astype(np.int64),
        probabilities=probabilities / probabilities.sum(axis=1, keepdims=True),
        valence_arousal=axes,
        valence_arousal_predicted=axes_predicted,
        units=UNITS,
        action_units=units,
        action_units_predicted=np.clip(0.8 * units + random.uniform(0, 0.4, units.shape), 0, 1),
    )


def create_many_classes(count: int, num_classes: int) -> Predictions:
    """A table of another task. No class has more faces than one with a lower id."""
    random = np.random.default_rng(0)
    expression = np.concatenate([np.arange(n) for n in range(num_classes, 0, -1)])
    axes = random.uniform(-1, 1, (count, 2))
    return Predictions(
        id=np.arange(count).astype(str),
        classes=tuple(f"=$_{i}^x$" for i in range(num_classes)),
        expression=np.resize(expression, count),
        probabilities=random.dirichlet(np.ones(num_classes), count),
        valence_arousal=axes,
        valence_arousal_predicted=axes[::-1],
        units=(1, 12),
        action_units=np.round(random.uniform(0, 1, (count, 2))),
        action_units_predicted=random.uniform(0, 1, (count, 2)),
    )


def write_run(
    workdir: pathlib.Path,
    predictions: Predictions,
    *,
    data: str = "synthetic_faces",
    config: str = "synthetic_faces",
    **changes: object,
) -> pathlib.Path:
    """Writes a workdir with the files of training and evaluation, without checkpoints.

    **Arguments:** `changes`: changes of the config, such as `trunk={"name": "resnet18"}`.
    """
    folder = workdir / "evaluation" / "validation"
    folder.mkdir(parents=True)
    settings = variant(defaults(), config)
    for key, value in changes.items():
        settings[key] = value
    (workdir / "config.json").write_text(json.dumps(to_dict(settings)))
    write_predictions(predictions, folder / "predictions.parquet")
    about = {
        "data": data,
        "split": "validation",
        "fingerprint": "0123456789abcdef" * 4,
        "config": "abcdef012345",
        "checkpoint_step": 200,
        "machine": {"devices": "1 x cpu"},
        "machine_of_training": {"devices": "4 x accelerator"},
        "action_units": "validation: action units annotated for 240 faces",
        "predictions": str(folder / "predictions.parquet"),
        "faces": len(predictions),
        "draws": 3,
        "bootstrap": 20,
        "time": "2026-01-02 03:04 UTC",
    }
    scores = protocol.score(predictions, draws=3, bootstrap=20)
    protocols = protocol_matrix.score_protocols([predictions], scores, {}, bootstrap=20)
    protocol.write_scores(scores, folder / "scores.json", about, protocols=protocols)
    lines = []
    for step in range(20, 201, 20):
        entry = {
            "step": step,
            "time": 1e9 + step,
            "train.loss": 2 / step,
            "train.learning_rate": 0.1,
        }
        lines.append(entry | {"train.images_per_second": 50.0})
        if step % 100 == 0:
            headlines = {
                name: value * step / 200
                for name, value in protocol.select_headlines(scores).items()
            }
            lines.append({"step": step, "time": 1e9 + step, **headlines})
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    return workdir


def add_images(run: Run) -> Run:
    """Adds noise as face images, and heatmaps with one warm pixel, to a run."""
    random = np.random.default_rng(1)

    def faces(count: int) -> np.ndarray:
        return random.integers(0, 256, (count, 32, 32, 3), np.uint8)

    gallery_rows = np.unique(np.concatenate([*galleries.select_faces(run.predictions).values()]))
    example_rows = galleries.select_examples(run.predictions)
    heatmaps = np.zeros((len(example_rows), 32, 32))
    heatmaps[np.arange(len(example_rows)), 4 + np.arange(len(example_rows)) % 24, 6] = 1
    examples = zip(faces(len(example_rows)), heatmaps, strict=True)
    return dataclasses.replace(
        run,
        faces=dict(zip(gallery_rows.tolist(), faces(len(gallery_rows)), strict=True)),
        grad_cam=dict(zip(example_rows, examples, strict=True)),
    )


@pytest.fixture(scope="session")
def workdir(tmp_path_factory) -> pathlib.Path:
    return write_run(tmp_path_factory.mktemp("report") / "fair", create_predictions())


@pytest.fixture(scope="session")
def run(workdir) -> Run:
    return add_images(runs.read_run(workdir))


@pytest.fixture(scope="session")
def written(run, tmp_path_factory) -> pathlib.Path:
    """The folder with the page and the figures."""
    return run_page.write_report(run, tmp_path_factory.mktemp("page")).parent
