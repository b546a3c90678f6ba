"""Measures the categorical scores of the protocol, compared with a loop over scikit-learn.

    python -m benchmarks.scores                    # 4,000 and 100,000 faces of 8 classes
    python -m benchmarks.scores --faces 4000 --draws 200 --bootstrap 1000

Both sides compute top-1 and top-2 scores, original and skew-normalised: accuracy, kappa, alpha;
precision, recall, F1, AUC and AUC-PR of each class and macro. The loop selects the faces of each
draw and calls scikit-learn, and the `krippendorff` package for alpha. Areas under curves do not
depend on the top-1 or top-2 rule and are among the top-1 scores. With many faces the loop
is timed on fewer draws and the time is scaled; the table shows their number. All values of both
sides are compared, to make sure that they agree. Classes are equally frequent, as in the validation
set of AffectNet, or skewed as in its training set, where a draw has far fewer faces. Both sides use
one thread; processor time is compared, which hardly depends on other load.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import krippendorff
import numpy as np
from sklearn import metrics as sklearn_metrics

from affect_jax.core.labels import TRAINING_COUNTS, classes
from affect_jax.metrics import categorical, resampling
from benchmarks import harness

CLASSES = classes(8)
OURS, PEER = "affect_jax", "scikit-learn"


def main(argv: Sequence[str] | None = None) -> None:
    args = harness.parse_args(
        __doc__,
        argv,
        faces=((4_000, 100_000), (400,)),
        skew=(("equal", "training"), ("equal",)),
        draws=(200, 2),
        peer_faces=(800_000, None, "faces that scikit-learn scores, about"),
    )
    runs, rows = {}, []
    for skew in args.skew:
        for num_faces in args.faces:
            case = f"{skew}, {num_faces}"
            row, runs[case] = measure(num_faces, skew, args)
            rows.append({"classes": skew, "faces": num_faces, "draws": args.draws} | row)
    harness.write_result(
        "scores",
        what="Seconds of processor time for all categorical scores",
        args=args,
        rows=rows,
        runs=runs,
    )


def measure(
    num_faces: int, skew: str, args: argparse.Namespace
) -> tuple[dict[str, Any], harness.Runs]:
    """Runs both sides in turns and compares their scores; returns a row and the seconds."""
    labels, probabilities = random_predictions(num_faces, skew)
    peer_draws = max(1, min(args.draws, args.peer_faces // num_faces))

    def score(draws: int) -> dict[str, float]:
        return categorical.score_categorical(labels, probabilities, CLASSES, draws=draws).values

    def seconds(work: Callable[..., Any], *arguments: Any) -> float:
        return harness.measure_seconds(lambda: work(*arguments), "processor")

    peer_arguments = (labels, probabilities, peer_draws)
    contenders = {
        OURS: lambda: seconds(score, args.draws),
        PEER: lambda: seconds(score_with_scikit_learn, *peer_arguments),
    }
    runs = harness.run_interleaved(contenders, args.rounds)
    scale = (args.draws + 1) / (peer_draws + 1)  # all faces are scored too
    runs[PEER] = [scale * value for value in runs[PEER]]
    ours, theirs = score(peer_draws), score_with_scikit_learn(*peer_arguments)
    difference = max(abs(ours[name] - value) for name, value in theirs.items())
    assert difference < 1e-9, difference
    row = {name: statistics.median(values) for name, values in runs.items()}
    row |= {"of draws": peer_draws, "ratio": round(harness.median_ratio(runs[PEER], runs[OURS]))}
    return row | {"largest difference": f"{difference:.0e}"}, runs


def random_predictions(count: int, skew: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels [N] and probabilities [N, 8] that correlate with them."""
    random = np.random.default_rng(0)
    shares = np.ones(8) if skew == "equal" else np.array(TRAINING_COUNTS)
    labels = np.repeat(np.arange(8), np.round(count * shares / shares.sum()).astype(int))
    labels = random.permutation(np.resize(labels, count))
    probabilities = random.dirichlet(np.ones(8), count)
    probabilities[np.arange(count), labels] += 0.3
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def score_with_scikit_learn(
    labels: np.ndarray, probabilities: np.ndarray, draws: int
) -> dict[str, float]:
    """Returns the same scores under the same names, computed draw by draw."""
    rules = {
        "top1": categorical.predict_top1(probabilities),
        "top2": categorical.predict_top2(probabilities, labels),
    }

    def score(rows: Any) -> dict[str, float]:
        predictions = {rule: predicted[rows] for rule, predicted in rules.items()}
        return score_once(labels[rows], probabilities[rows], predictions)

    original = score(slice(None))
    draw = functools.partial(resampling.subsample_classes, labels)
    masks = (draw(range(i, i + 1), 0)[0].astype(bool) for i in range(draws))
    drawn = [score(mask) for mask in masks]
    scores: dict[str, float] = {}
    for name, value in original.items():
        rule, kind = name.split(".", 1)
        scores[f"{rule}.original.{kind}"] = value
        scores[f"{rule}.normalised.{kind}"] = float(np.mean([values[name] for values in drawn]))
    return scores


def score_once(
    labels: np.ndarray, probabilities: np.ndarray, predictions: dict[str, np.ndarray]
) -> dict[str, float]:
    """Returns the scores of one set of faces; `predictions` are classes [N] of each rule."""
    ids, scores = range(8), {}
    areas = sklearn_metrics.roc_auc_score(
        labels, probabilities, multi_class="ovr", average=None, labels=ids
    )
    one_hot = np.eye(8)[labels]
    average = sklearn_metrics.average_precision_score(one_hot, probabilities, average=None)
    for rule, predicted in predictions.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            by_class = sklearn_metrics.precision_recall_fscore_support(
                labels, predicted, labels=ids, zero_division=np.nan
            )
        kinds = dict(zip(("precision", "recall", "f1"), by_class, strict=False))
        if rule == "top1":
            kinds |= {"auc": areas, "auc_pr": average}
        for kind, values in kinds.items():
            scores |= {f"{rule}.{kind}.{c}": v for c, v in zip(CLASSES, values, strict=True)}
            scores[f"{rule}.{kind}.macro"] = np.nanmean(values)
        scores[f"{rule}.accuracy"] = sklearn_metrics.accuracy_score(labels, predicted)
        scores[f"{rule}.kappa"] = sklearn_metrics.cohen_kappa_score(labels, predicted)
        pair = [labels, predicted]
        scores[f"{rule}.alpha"] = krippendorff.alpha(pair, level_of_measurement="nominal")
    return scores


if __name__ == "__main__":
    main()
