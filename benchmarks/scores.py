"""How long the protocol's categorical scores take, beside the same done by scikit-learn in a loop.

    python -m benchmarks.scores                    # 4,000 and 100,000 faces of 8 classes
    python -m benchmarks.scores --faces 4000 --draws 200 --bootstrap 1000

Both sides score top-1 and top-2, original and skew-normalised: accuracy, kappa, alpha; precision,
recall, F1, AUC and AUC-PR of each class and macro. The peer takes each draw's faces and calls
scikit-learn, and the `krippendorff` package for alpha; areas under curves do not depend on the
top-1 or top-2 rule and are computed once a draw on both sides. With many faces the peer's time is
measured on a few draws and multiplied; the table says on how many. All values are held against one
another, so both did the same work. Classes are equally frequent, as in AffectNet's validation set,
or as skewed as in its training set, where a draw has far fewer faces. Both sides use one thread;
their processor time is compared, so other work on the machine does not matter much.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import krippendorff
import numpy as np
from sklearn import metrics as peer

from affect_jax.core.labels import TRAINING_COUNTS, classes
from affect_jax.metrics import categorical, confidence_intervals, confusion, skew_normalization
from benchmarks import recording

CLASSES = classes(8)
SKEWS = ("equal", "training")
PACKAGES = ("numpy", "scikit-learn", "scipy", "krippendorff")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    runs: dict[str, list[tuple[float, float, float]]] = {}
    rows = []
    for skewness in options.skew:
        for num_faces in options.faces:
            row, runs[f"{skewness}, {num_faces}"] = measure(num_faces, skewness, options)
            rows.append(row)
    recording.keep(
        "scores",
        what="Seconds for all categorical scores",
        options=options,
        rows=rows,
        runs=runs,
        packages=PACKAGES,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--faces", type=int, nargs="*", default=[4_000, 100_000])
    found.add_argument("--skew", nargs="*", default=["equal", "training"], choices=SKEWS)
    found.add_argument("--draws", type=int, default=200)
    found.add_argument("--bootstrap", type=int, default=confidence_intervals.REPLICATES)
    found.add_argument("--peer_faces", type=int, default=800_000, help="about as many it scores")
    quick = {"faces": [400], "skew": ["equal"], "draws": 2, "bootstrap": 10}
    return recording.parse(found, arguments, quick)


def measure(
    num_faces: int, skewness: str, options: argparse.Namespace
) -> tuple[dict[str, Any], list[tuple[float, float, float]]]:
    """One row of the table: medians over the rounds, in which both sides take turns.

    **Returns:** the row, and each round's seconds, processor seconds and the peer's processor
    seconds.
    """
    labels, probabilities = faces(num_faces, skewness)
    peer_draws = max(1, min(options.draws, options.peer_faces // num_faces))
    scale = (options.draws + 1) / (peer_draws + 1)  # the undrawn faces are scored too
    runs = []
    for _ in range(options.rounds):
        found, seconds, processor = timed(
            lambda: categorical.categorical(labels, probabilities, CLASSES, draws=options.draws)
        )
        wanted, _, peer_processor = timed(
            lambda: by_scikit_learn(labels, probabilities, peer_draws)
        )
        runs.append((seconds, processor, scale * peer_processor))
    few = categorical.categorical(labels, probabilities, CLASSES, draws=peer_draws)
    worst = max(abs(few.values[name] - value) for name, value in wanted.items())
    assert wanted.keys() <= found.values.keys() and worst < 1e-9, worst
    score = categorical.resampled(labels, probabilities, CLASSES)
    _, _, resampling = timed(
        lambda: confidence_intervals.samples(score, num_faces, replicates=options.bootstrap)
    )
    seconds, processor, peer_processor = (statistics.median(one) for one in zip(*runs, strict=True))
    row = {
        "classes": skewness,
        "faces": num_faces,
        "draws": options.draws,
        "s": round(seconds, 2),
        "CPU s": round(processor, 2),
        "scikit-learn, CPU s": round(peer_processor, 1),
        "of draws": peer_draws,
        "ratio": round(statistics.median(b / a for _, a, b in runs)),
        "largest difference": f"{worst:.0e}",
        f"{options.bootstrap} bootstrap samples, CPU s": round(resampling, 1),
        "peak memory so far, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    return row, runs


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Its result, the seconds it took, and the seconds of processor time."""
    begin, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - begin, time.process_time() - processor


def faces(count: int, skewness: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] and probabilities [N, 8] that know something of them."""
    random = np.random.default_rng(0)
    shares = np.ones(8) if skewness == "equal" else np.array(TRAINING_COUNTS)
    labels = np.repeat(np.arange(8), np.round(count * shares / shares.sum()).astype(int))
    labels = random.permutation(np.resize(labels, count))
    probabilities = random.dirichlet(np.ones(8), count)
    probabilities[np.arange(count), labels] += 0.3
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def by_scikit_learn(labels: np.ndarray, probabilities: np.ndarray, draws: int) -> dict[str, float]:
    """The same scores under the same names, one draw after another."""
    rules = {
        "top1": confusion.top1(probabilities),
        "top2": confusion.top2(probabilities, labels),
    }

    def score(rows: Any) -> dict[str, float]:
        predicted = {rule: given[rows] for rule, given in rules.items()}
        return once(labels[rows], probabilities[rows], predicted)

    original = score(slice(None))
    draw = skew_normalization.drawer(labels)
    masks = (draw(range(i, i + 1), 0)[0].astype(bool) for i in range(draws))
    drawn = [score(mask) for mask in masks]
    found: dict[str, float] = {}
    for name, value in original.items():
        rule, kind = name.split(".", 1)
        found[f"{rule}.original.{kind}"] = value
        found[f"{rule}.normalised.{kind}"] = float(np.mean([one[name] for one in drawn]))
    return found


def once(
    labels: np.ndarray, probabilities: np.ndarray, predicted: dict[str, np.ndarray]
) -> dict[str, float]:
    ids, found = range(8), {}
    areas = peer.roc_auc_score(labels, probabilities, multi_class="ovr", average=None, labels=ids)
    one_hot = np.eye(8)[labels]
    average = peer.average_precision_score(one_hot, probabilities, average=None)
    for rule, given in predicted.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            by_class = peer.precision_recall_fscore_support(
                labels, given, labels=ids, zero_division=np.nan
            )
        kinds = ("precision", "recall", "f1", "auc", "auc_pr")
        for kind, values in zip(kinds, (*by_class[:3], areas, average), strict=True):
            found |= {f"{rule}.{kind}.{c}": v for c, v in zip(CLASSES, values, strict=True)}
            found[f"{rule}.{kind}.macro"] = np.nanmean(values)
        found[f"{rule}.accuracy"] = peer.accuracy_score(labels, given)
        found[f"{rule}.kappa"] = peer.cohen_kappa_score(labels, given)
        pair = [labels, given]
        found[f"{rule}.alpha"] = krippendorff.alpha(pair, level_of_measurement="nominal")
    return found


if __name__ == "__main__":
    main()
