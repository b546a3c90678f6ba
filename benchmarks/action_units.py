"""Measures the action units that `affect_jax.facs` estimates from landmarks, without a network.

    python -m benchmarks.action_units --prepared=data/affectnet/manual_256/1.1.0

It writes two tables into docs/results.md. The first has areas under the ROC curve for one
expression against neutral, of the units of a dataset's faces. Each contrast uses one unit of the
EMFACS prototype or a unit that often replaces it; the score of two units is the larger intensity.
The baseline is a single distance between landmarks. The second table has the error on faces that
the rig generates, by landmark noise.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from affect_jax.facs import rig
from affect_jax.facs.__main__ import LabelledFaces, read_prepared
from affect_jax.facs.action_units import UNITS
from affect_jax.facs.estimation import align_eyes, estimate
from benchmarks import harness

PAGE = harness.FOLDER.parent / "docs" / "results.md"
CONTRASTS = {  # expression -> units that separate it from neutral, and a description of a distance
    "happiness": ([(12,)], "the mouth's width and the height of its corners"),
    "surprise": ([(25, 26)], "the opening of the mouth"),
    "disgust": ([(9,), (9, 10)], "from the nose to the upper lip"),
    "anger": ([(4,)], "the height of the inner brows"),
}
NOISE_STDS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05)
"""Standard deviations of each coordinate, in face units: 0.01 is 0.6 pixels of a 256 x 256 face."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--prepared", type=pathlib.Path, required=True, help="folder with prepared.json"
    )
    parser.add_argument("--faces", type=int, default=2_000, help="that the rig generates")
    parser.add_argument("--page", type=pathlib.Path, default=PAGE, help="file with the tables")
    args = parser.parse_args(argv)
    areas = area_rows(read_prepared(args.prepared))
    errors = [error_row(args.faces, noise) for noise in NOISE_STDS]
    tables = f"{harness.markdown_table(areas)}\n\n{harness.markdown_table(errors)}"
    print(tables)
    harness.replace_table(args.page, "action_units", tables)


def area_rows(faces: LabelledFaces) -> list[dict[str, str]]:
    """Returns a row for each combination of units and each distance, a column for each split."""
    splits = {name: faces.split == name for name in dict.fromkeys(faces.split.tolist())}
    splits["all"] = np.full(len(faces.split), True)
    intensities = estimate(faces.landmarks).intensities
    distances = landmark_distances(faces.landmarks)
    rows = []
    for name, (combinations, distance) in CONTRASTS.items():
        scores = {
            f"{name}: {' or '.join(f'AU{unit}' for unit in units)}": intensities[
                :, [UNITS.index(unit) for unit in units]
            ].max(axis=1)
            for units in combinations
        }
        for text, values in (scores | {distance: distances[name]}).items():
            cells = {
                split: format_area(values[mask], faces.expression[mask], name)
                for split, mask in splits.items()
            }
            rows.append({"expression: unit or distance": text} | cells)
    return rows


def format_area(values: np.ndarray, expressions: np.ndarray, name: str) -> str:
    """Formats the area under the ROC curve and the counts, without faces whose value is NaN."""
    used = np.isfinite(values) & np.isin(expressions, (name, "neutral"))
    positive = expressions[used] == name
    counts = f"({np.sum(positive):,} : {np.sum(~positive):,})"
    if positive.all() or not positive.any():
        return f"- {counts}"
    return f"{roc_auc_score(positive, values[used]):.3f} {counts}"


def landmark_distances(landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """Computes one distance per expression that grows with it: [n] each, in face units.

    **Arguments:**

    - `landmarks`: float [n, 68, 2] in pixels, NaN for a face without landmarks.
    """
    x, y = np.moveaxis(align_eyes(np.asarray(landmarks, np.float64)), -1, 0)
    corners = (y[:, 48] + y[:, 54]) / 2
    return {
        "happiness": x[:, 54] - x[:, 48] + (y[:, 62] + y[:, 66]) / 2 - corners,
        "surprise": y[:, 66] - y[:, 62],
        "disgust": y[:, 33] - y[:, 51],
        "anger": (y[:, 21] + y[:, 22]) / 2,
    }


def error_row(num_faces: int, noise: float) -> Mapping[str, Any]:
    """Returns errors of the estimated intensities of random faces: means over units, worst units.

    Each unit is active with probability 0.3 and has a uniform intensity. Identity coefficients are
    standard normal, clipped at two standard deviations.

    **Arguments:**

    - `noise`: standard deviation of each coordinate, in face units.
    """
    random = np.random.default_rng(0)
    shape = (num_faces, len(UNITS))
    truth = random.uniform(0, 1, shape) * (random.random(shape) < 0.3)
    identity = np.clip(random.standard_normal((num_faces, rig.NUM_IDENTITY)), -2, 2)
    points = rig.deform_symmetric(truth, identity)
    estimates = estimate(points + noise * random.standard_normal(points.shape))
    errors = np.abs(estimates.intensities - truth).mean(axis=0)
    pairs = zip(truth.T, estimates.intensities.T, strict=True)
    correlation = np.mean([np.corrcoef(*pair)[0, 1] for pair in pairs])
    return {
        "landmark noise": f"{noise:g}",
        "mean absolute error": f"{errors.mean():.3f}",
        "correlation": f"{correlation:.2f}",
        "median residual": f"{np.median(estimates.residual):.4f}",
        "worst units": ", ".join(f"AU{UNITS[u]} {errors[u]:.2f}" for u in np.argsort(-errors)[:3]),
    }


if __name__ == "__main__":
    main()
