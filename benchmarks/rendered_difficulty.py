"""Measures how hard rendered faces are for a linear model on pixels and for the networks.

    python -m benchmarks.rendered_difficulty                                  # linear, minutes
    python -m benchmarks.rendered_difficulty --run runs/resnet18_all-synthetic_faces

The linear model is the logistic regression of scikit-learn on 32 x 32 standardised pixels, grey and
colour, for several values of C. The best accuracy on the validation faces counts, which favours the
linear model. Classes are equally frequent. `--run` adds the scores of a run that was trained and
evaluated on the same dataset:

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
from affect_jax.data.tfds_builder import Split, open_split
from benchmarks import harness

PACKAGES = ("numpy", "scikit-learn", "opencv-python-headless")
SIDE = 32
TARGETS = {  # the bound of each score
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


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    builder = synthetic_faces.synthetic_faces(
        data_dir=args.data_dir,
        image_size=args.image_size,
        num_training=args.num_training,
        num_validation=args.num_validation,
        skew="balanced",
    )
    splits = {name: read_pixels(open_split(builder, name)) for name in labels.SPLITS}
    runs = fit_linear_models(splits, args.strengths)
    print(harness.markdown_table(runs), end="\n\n")
    scores = {"logistic regression, accuracy": max(run["accuracy"] for run in runs)}
    if args.run:
        scores |= read_scores(args.run)
    rows = [
        {"what": what, "measured": f"{value:.3f}", "wanted": " ".join(map(str, TARGETS[what]))}
        for what, value in scores.items()
    ]
    harness.write_result(
        "rendered_difficulty",
        what=f"Scores on {args.num_validation:,} rendered faces",
        args=args,
        rows=rows,
        runs=runs,
        packages=PACKAGES,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--num_training", type=int, default=8_000)
    parser.add_argument("--num_validation", type=int, default=1_000)
    parser.add_argument("--strengths", type=float, nargs="*", default=[1e-3, 1e-2, 1e-1, 1.0])
    parser.add_argument("--run", default="", help="folder of an evaluated run")
    quick = {"num_training": 32, "num_validation": 16, "image_size": 32, "strengths": [0.1]}
    return harness.parse_args(parser, argv, quick)


def read_pixels(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels uint8 [N, 32, 32, 3] and expressions [N] of a split."""
    images = []
    for row in range(len(split)):
        image = simplejpeg.decode_jpeg(split.records[row]["image"], "RGB")
        images.append(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    return np.stack(images), split.columns()["expression"]


def fit_linear_models(
    splits: dict[str, tuple[np.ndarray, np.ndarray]], strengths: list[float]
) -> list[dict[str, Any]]:
    """Fits a model for each kind of pixels and value of C, and returns their accuracies."""
    runs = []
    for kind in ("grey", "colour"):
        scaler = StandardScaler()
        features = {}
        for name in ("training", "validation"):
            images, expression = splits[name]
            values = images.mean(axis=3) if kind == "grey" else images
            values = values.reshape(len(values), -1).astype(np.float32)
            values = (
                scaler.fit_transform(values) if name == "training" else scaler.transform(values)
            )
            features[name] = (values, expression)
        for strength in strengths:
            start = time.perf_counter()
            model = LogisticRegression(C=strength, max_iter=200)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(*features["training"])
            runs.append(
                {
                    "pixels": kind,
                    "C": f"{strength:g}",
                    "accuracy": float(model.score(*features["validation"])),
                    "on training faces": float(model.score(*features["training"])),
                    "seconds": round(time.perf_counter() - start, 1),
                }
            )
    return runs


def read_scores(run: str) -> dict[str, float]:
    """Reads those scores of the validation split that the heads of a run have."""
    path = pathlib.Path(run) / "evaluation" / "validation" / "scores.json"
    scores = json.loads(path.read_text())["scores"]
    return {what: scores[name] for what, name in SCORES.items() if scores.get(name) is not None}


if __name__ == "__main__":
    main()
