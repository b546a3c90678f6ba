"""How hard rendered faces are: for a linear model on their pixels, and for the project's networks.

    python -m benchmarks.rendered_difficulty                                  # linear, minutes
    python -m benchmarks.rendered_difficulty --run runs/resnet18_all-synthetic_faces

The linear model is scikit-learn's logistic regression on 32 x 32 pixels, standardised, grey and in
colour, over strengths of its penalty; the best of them on the validation faces counts, which is to
its advantage. Classes are equally frequent. `--run` adds the scores of a run that was trained and
scored by the project's own commands on the same set:

    python -m affect_jax.main --config=configs/resnet18_all.py:synthetic_faces
    python -m affect_jax.main --mode=evaluate --workdir=runs/resnet18_all-synthetic_faces
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time
import warnings
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import simplejpeg
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from affect_jax.core import labels
from affect_jax.data import synthetic_faces
from affect_jax.data.builder import Split, open_split
from benchmarks import recording

PACKAGES = ("numpy", "scikit-learn", "opencv-python-headless")
SIDE = 32
WANTED = {  # what the set is to be: below or above
    "logistic regression, accuracy": ("<", 0.70),
    "network, accuracy": (">", 0.90),
    "network, macro-F1": (">", 0.85),
    "network, CCC valence": (">", 0.80),
    "network, CCC arousal": (">", 0.80),
    "network, mean unit AUC": (">", 0.90),
}
SCORES = {
    "network, accuracy": "categorical.top1.original.accuracy",
    "network, macro-F1": "categorical.top1.original.f1.macro",
    "network, CCC valence": "dimensional.valence.ccc",
    "network, CCC arousal": "dimensional.arousal.ccc",
    "network, mean unit AUC": "action_units.mean.auc",
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    builder = synthetic_faces.synthetic_faces(
        data_dir=options.data_dir,
        image_size=options.image_size,
        num_training=options.num_training,
        num_validation=options.num_validation,
        skew="balanced",
    )
    splits = {name: pixels(open_split(builder, name)) for name in labels.SPLITS}
    runs = linear(splits, options.strengths)
    print(recording.table(runs), end="\n\n")
    measured = {"logistic regression, accuracy": max(run["accuracy"] for run in runs)}
    if options.run:
        measured |= scores_of(options.run)
    rows = [
        {"what": what, "measured": f"{value:.3f}", "wanted": " ".join(map(str, WANTED[what]))}
        for what, value in measured.items()
    ]
    recording.keep(
        "rendered_difficulty",
        what=f"Scores on {options.num_validation:,} rendered faces",
        options=options,
        rows=rows,
        runs=runs,
        packages=PACKAGES,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--data_dir", default="data")
    found.add_argument("--image_size", type=int, default=128)
    found.add_argument("--num_training", type=int, default=8_000)
    found.add_argument("--num_validation", type=int, default=1_000)
    found.add_argument("--strengths", type=float, nargs="*", default=[1e-3, 1e-2, 1e-1, 1.0])
    found.add_argument("--run", default="", help="folder of a run that was scored")
    quick = {"num_training": 32, "num_validation": 16, "image_size": 32, "strengths": [0.1]}
    return recording.parse(found, arguments, quick)


def pixels(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [N, 32, 32, 3] and expressions [N] of a split."""
    images = []
    for row in range(len(split)):
        image = simplejpeg.decode_jpeg(split.records[row]["image"], "RGB")
        images.append(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    return np.stack(images), split.columns()["expression"]


def linear(
    splits: dict[str, tuple[np.ndarray, np.ndarray]], strengths: list[float]
) -> list[dict[str, Any]]:
    """Accuracy on the validation split of one model for each kind of pixels and strength."""
    runs = []
    for kind in ("grey", "colour"):
        scaler = StandardScaler()
        given = {}
        for name in ("training", "validation"):
            images, expression = splits[name]
            values = images.mean(axis=3) if kind == "grey" else images
            values = values.reshape(len(values), -1).astype(np.float32)
            values = (
                scaler.fit_transform(values) if name == "training" else scaler.transform(values)
            )
            given[name] = (values, expression)
        for strength in strengths:
            begin = time.perf_counter()
            model = LogisticRegression(C=strength, max_iter=200)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(*given["training"])
            runs.append(
                {
                    "pixels": kind,
                    "C": f"{strength:g}",
                    "accuracy": float(model.score(*given["validation"])),
                    "on training faces": float(model.score(*given["training"])),
                    "seconds": round(time.perf_counter() - begin, 1),
                }
            )
    return runs


def scores_of(run: str) -> dict[str, float]:
    """A run's scores on the validation split, those that its heads have."""
    path = pathlib.Path(run) / "evaluation" / "validation" / "scores.json"
    found = json.loads(path.read_text())["scores"]
    return {what: found[name] for what, name in SCORES.items() if found.get(name) is not None}


if __name__ == "__main__":
    main()
