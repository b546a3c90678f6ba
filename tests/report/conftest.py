"""A run as evaluation leaves it: seeded predictions of a fair model, faces, curves, Grad-CAM."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from affect_jax.config import defaults, to_dict, variant
from affect_jax.core.labels import classes
from affect_jax.facs.action_units import PROTOTYPES, UNITS
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions, write_predictions
from affect_jax.report import example_faces, page, runs
from affect_jax.report.runs import Explanation, Run

HOSTILE = """<script>alert("x")</script>&'.jpg"""
"""A file's name that would be a program in a page that does not escape it."""

SHOWN = 5  # the row of that face

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


def table(count: int = 240, seed: int = 0, skill: float = 1.0) -> Predictions:
    """Labels do not depend on the skill; one face in twenty has no expression, some no axes."""
    random = np.random.default_rng(seed)
    shares = (0.2, 0.27, 0.1, 0.1, 0.07, 0.07, 0.1, 0.04, 0.05)
    expression = random.choice([*range(8), -1], count, p=shares)
    expression[:8] = range(8)
    logits = random.normal(0, 1, (count, 8))
    logits[np.arange(count), expression] += 2 * skill
    logits[SHOWN] = 0  # the least certain of all, so that the page shows it
    probabilities = np.exp(logits)
    axes = np.clip(PLACES[expression] + random.normal(0, 0.2, (count, 2)), -1, 1)
    axes_predicted = np.clip(0.7 * axes + random.normal(0, 0.2, (count, 2)) / skill, -1, 1)
    axes[::23] = np.nan
    units = np.zeros((count, len(UNITS)))
    for i, name in enumerate(classes(8)):
        if name in PROTOTYPES:
            units[np.ix_(expression == i, np.isin(UNITS, PROTOTYPES[name]))] = 0.8
    identifiers = np.array([f"validation/{i:07d}" for i in range(count)], dtype="U64")
    identifiers[SHOWN] = HOSTILE
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


def write_run(
    workdir: pathlib.Path,
    given: Predictions,
    *,
    data: str = "synthetic_faces",
    config: str = "synthetic_faces",
    **changes: object,
) -> pathlib.Path:
    """A workdir with what training and evaluation write, without checkpoints.

    **Arguments:** `changes`: of the config, `trunk={"name": "resnet18"}`.
    """
    folder = workdir / "evaluation" / "validation"
    folder.mkdir(parents=True)
    settings = variant(defaults(), config)
    for key, value in changes.items():
        settings[key] = value
    (workdir / "config.json").write_text(json.dumps(to_dict(settings)))
    write_predictions(given, folder / "predictions.parquet")
    about = {
        "data": data,
        "split": "validation",
        "fingerprint": "0123456789abcdef" * 4,
        "config": "abcdef012345",
        "checkpoint_step": 200,
        "machine": {"devices": "1 x cpu"},
        "machine_of_training": {"devices": "4 x accelerator"},
        "action_units": "validation: action units annotated of 240 faces",
        "predictions": str(folder / "predictions.parquet"),
        "faces": len(given),
        "draws": 3,
        "bootstrap": 20,
        "time": "2026-01-02 03:04 UTC",
    }
    found = protocol.score(given, draws=3, bootstrap=20)
    protocol.write(found, folder / "scores.json", about)
    lines = []
    for step in range(20, 201, 20):
        line = {
            "step": step,
            "time": 1e9 + step,
            "train.loss": 2 / step,
            "train.learning_rate": 0.1,
        }
        lines.append(line | {"train.images_per_second": 50.0})
        if step % 100 == 0:
            shown = {name: value * step / 200 for name, value in protocol.headlines(found).items()}
            lines.append({"step": step, "time": 1e9 + step, **shown})
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return workdir


def with_pictures(run: Run) -> Run:
    """The run with noise for faces, and warm spots for Grad-CAM."""
    random = np.random.default_rng(1)

    def faces(count: int) -> np.ndarray:
        return random.integers(0, 256, (count, 32, 32, 3), np.uint8)

    shown = example_faces.shown(run.table)
    explained = [int(row) for rows in example_faces.examples(run.table).values() for row in rows]
    heat = np.zeros((len(explained), 32, 32))
    heat[np.arange(len(explained)), 4 + np.arange(len(explained)) % 24, 6] = 1
    pictures = zip(explained, faces(len(explained)), heat, strict=True)
    return dataclasses.replace(
        run,
        faces=dict(zip(shown, faces(len(shown)), strict=True)),
        explanations=[Explanation(*one) for one in pictures],
    )


@pytest.fixture(scope="session")
def workdir(tmp_path_factory) -> pathlib.Path:
    return write_run(tmp_path_factory.mktemp("report") / "fair", table())


@pytest.fixture(scope="session")
def run(workdir) -> Run:
    return with_pictures(runs.read(workdir))


class Images:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.images: dict[str, np.ndarray] = {}

    def write_images(self, step: int, images: dict[str, np.ndarray]) -> None:
        self.steps.append(step)
        self.images |= images

    def __getattr__(self, name: str) -> Callable:
        return lambda *arguments: None


@pytest.fixture(scope="session")
def written(run, tmp_path_factory) -> tuple[pathlib.Path, Images]:
    """The folder with the page and the figures, and what TensorBoard would have got."""
    folder, images = tmp_path_factory.mktemp("page"), Images()
    page.write(run, folder, writer=images)
    return folder, images
