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
import resource
import statistics
import time
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
SKEWS = ("equal", "training")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    runs: dict[str, list[tuple[float, float, float]]] = {}
    rows = []
    for skew in args.skew:
        for num_faces in args.faces:
            row, runs[f"{skew}, {num_faces}"] = measure(num_faces, skew, args)
            rows.append(row)
    harness.write_result(
        "scores",
        what="Seconds for all categorical scores",
        args=args,
        rows=rows,
        runs=runs,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--faces", type=int, nargs="*", default=[4_000, 100_000])
    parser.add_argument("--skew", nargs="*", default=["equal", "training"], choices=SKEWS)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--bootstrap", type=int, default=resampling.REPLICATES)
    parser.add_argument(
        "--peer_faces", type=int, default=800_000, help="faces that scikit-learn scores, about"
    )
    quick = {"faces": [400], "skew": ["equal"], "draws": 2, "bootstrap": 10}
    return harness.parse_args(parser, argv, quick)


def measure(
    num_faces: int, skew: str, args: argparse.Namespace
) -> tuple[dict[str, Any], list[tuple[float, float, float]]]:
    """Runs both sides in turns.

    **Returns:** a row of the table with medians over the rounds; and for each round our seconds,
    our processor seconds, and the processor seconds of scikit-learn.
    """
    labels, probabilities = random_predictions(num_faces, skew)
    peer_draws = max(1, min(args.draws, args.peer_faces // num_faces))
    scale = (args.draws + 1) / (peer_draws + 1)  # all faces are scored too
    runs = []
    for _ in range(args.rounds):
        ours, seconds, processor = measure_time(
            lambda: categorical.score_categorical(labels, probabilities, CLASSES, draws=args.draws)
        )
        theirs, _, peer_processor = measure_time(
            lambda: score_with_scikit_learn(labels, probabilities, peer_draws)
        )
        runs.append((seconds, processor, scale * peer_processor))
    compared = categorical.score_categorical(labels, probabilities, CLASSES, draws=peer_draws)
    difference = max(abs(compared.values[name] - value) for name, value in theirs.items())
    assert theirs.keys() <= ours.values.keys() and difference < 1e-9, difference
    score = categorical.create_bootstrap_scorer(labels, probabilities, CLASSES)
    _, _, bootstrap_seconds = measure_time(
        lambda: resampling.bootstrap_scores(score, num_faces, replicates=args.bootstrap)
    )
    seconds, processor, peer_processor = map(statistics.median, zip(*runs, strict=True))
    row = {
        "classes": skew,
        "faces": num_faces,
        "draws": args.draws,
        "s": round(seconds, 2),
        "CPU s": round(processor, 2),
        "scikit-learn, CPU s": round(peer_processor, 1),
        "of draws": peer_draws,
        "ratio": round(statistics.median(b / a for _, a, b in runs)),
        "largest difference": f"{difference:.0e}",
        f"{args.bootstrap} bootstrap samples, CPU s": round(bootstrap_seconds, 1),
        "peak memory so far, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    return row, runs


def measure_time(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Returns the result of `work`, its seconds, and its processor seconds."""
    start, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - start, time.process_time() - processor


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
