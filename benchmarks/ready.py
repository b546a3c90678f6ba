"""Compares the model in the package with the models that other packages ship, on photographs.

    npm install --prefix peers @vladmandic/face-api@1.7.15 @vladmandic/human@3.3.6 jpeg-js \
        @tensorflow/tfjs@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0
    taskset -c 0 python -m benchmarks.ready --manual_dir=DATA --peers=peers/node_modules

DATA is in the layout of AffectNet's first release; its validation split is scored. Every package
starts from the file of a photograph and uses its own detector and preprocessing; a photograph
without a face counts as an error. Classes are the seven without contempt. The model in the package
was chosen on this split and trained on photographs of the same source, the others on other data.
Intervals are 95 %, bootstrap over the faces; those of differences are paired. Milliseconds of
processor time are medians over the photographs, which one process predicts one by one.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics as sklearn_metrics

from affect_jax import Predictor
from affect_jax.core.labels import canonical_name, classes
from affect_jax.core.paths import READY_FOLDER
from affect_jax.data import affectnet
from benchmarks import harness

CLASSES = classes(7)
OURS = "affect_jax"
PEERS = {"face-api": ("face-api/model", "face_expression"), "human": ("human/models", "emotion")}
"""Package -> folder of its models below @vladmandic, and the name of that of expressions."""

SCORES = {
    "accuracy": sklearn_metrics.accuracy_score,
    "macro-F1": lambda labels, predicted: sklearn_metrics.f1_score(
        labels, predicted, labels=range(7), average="macro", zero_division=0
    ),
    "kappa": sklearn_metrics.cohen_kappa_score,
}
REPLICATES = 1000


def main(argv: Sequence[str] | None = None) -> None:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--manual_dir", required=True, help="photographs in AffectNet's layout")
    parser.add_argument("--peers", dest="peers_dir", help="folder of npm packages; default: none")
    parser.add_argument("--faces", type=int, default=0, help="photographs drawn at random; 0: all")
    args = harness.parse_args(parser, argv, {"faces": 20})
    paths, labels = read_split(pathlib.Path(args.manual_dir), args.faces)
    results = {OURS: predict_ours(paths)}
    sizes = {OURS: (READY_FOLDER / "model.safetensors").stat().st_size}
    for name, (folder, prefix) in PEERS.items() if args.peers_dir else ():
        results[name] = predict_peer(name, paths, args.peers_dir)
        files = (pathlib.Path(args.peers_dir) / "@vladmandic" / folder).glob(f"{prefix}*.bin")
        sizes[name] = sum(file.stat().st_size for file in files)
    runs = {name: create_run(labels, result) for name, result in results.items()}
    harness.write_result(
        "ready",
        what=f"Scores of {len(labels)} photographs of seven expressions with 95 % intervals, "
        "milliseconds of processor time for a photograph, and size of the network of expressions",
        args=args,
        rows=[create_row(name, runs, sizes[name]) for name in runs],
        runs=runs,
    )


def read_split(folder: pathlib.Path, count: int) -> tuple[list[pathlib.Path], np.ndarray]:
    """Returns the paths of the validation split's photographs and their labels, int [N]."""
    table = affectnet.find_tables(folder, "manual")["validation"]
    images = affectnet.find_images(folder, table)
    rows = [row for row in affectnet.read_rows(table) if int(row.values["expression"]) < 7]
    chosen = np.random.default_rng(0).permutation(len(rows))[: count or None]
    rows = [rows[i] for i in sorted(chosen)]
    labels = np.array([int(row.values["expression"]) for row in rows])
    return [images / str(row.image) for row in rows], labels


def predict_ours(paths: Sequence[pathlib.Path]) -> list[dict[str, Any]]:
    """Returns the predicted class and the milliseconds of each photograph."""
    predictor = Predictor.load(batch_size=1)
    predictor.predict(paths[0])  # compiles
    results = []
    for path in paths:
        begin = time.process_time()
        prediction = predictor.predict(path)
        predicted = prediction.expression[0].argmax() if len(prediction) else None
        ms = (time.process_time() - begin) * 1000
        name = "" if predicted is None else prediction.classes[predicted]
        results.append({"predicted": name, "ms": ms})
    crop = predictor.detect(paths[0], [(0, 0, 100, 100)]).crops
    network = [
        harness.measure_seconds(lambda: predictor.predict_crops(crop), "processor")
        for _ in range(100)
    ]
    results[0]["network_ms"] = 1000 * statistics.median(network)
    return results


def predict_peer(name: str, paths: Sequence[pathlib.Path], modules: str) -> list[dict[str, Any]]:
    """As `predict_ours`, by `ready_peers.js`."""
    script = pathlib.Path(__file__).with_name("ready_peers.js")
    process = subprocess.run(
        ["node", str(script), name, modules],
        input="\n".join(map(str, paths)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [line for line in process.stdout.splitlines() if line.startswith('{"predicted')]
    return [json.loads(line) for line in lines]


def create_run(labels: np.ndarray, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Scores the predictions of one package, also of bootstrap samples."""
    names = [canonical_name(result["predicted"]) for result in results]
    predicted = np.array([CLASSES.index(name) if name in CLASSES else 7 for name in names])
    random = np.random.default_rng(0)  # the same samples for every package: differences are paired
    samples = random.integers(0, len(labels), (REPLICATES, len(labels)))
    return {
        "predicted": names,
        "scores": {name: float(score(labels, predicted)) for name, score in SCORES.items()},
        "bootstrap": {
            name: [float(score(labels[rows], predicted[rows])) for rows in samples]
            for name, score in SCORES.items()
        },
        "ms": statistics.median(result["ms"] for result in results),
        "network_ms": results[0].get("network_ms"),
    }


def create_row(name: str, runs: dict[str, Any], size: int) -> dict[str, Any]:
    run = runs[name]
    row: dict[str, Any] = {"model": name}
    for score, value in run["scores"].items():
        low, high = np.quantile(run["bootstrap"][score], (0.025, 0.975))
        row[score] = f"{value:.3f} [{low:.3f}, {high:.3f}]"
    differences = np.subtract(runs[OURS]["bootstrap"]["macro-F1"], run["bootstrap"]["macro-F1"])
    low, high = np.quantile(differences, (0.025, 0.975))
    row["macro-F1 below ours by"] = "" if name == OURS else f"[{low:.3f}, {high:.3f}]"
    row["ms, network alone"] = "" if run["network_ms"] is None else round(run["network_ms"], 1)
    row["ms, from file to answer"] = round(run["ms"])
    row["MB"] = round(size / 1e6, 1)
    return row


if __name__ == "__main__":
    main()
