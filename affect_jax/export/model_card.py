"""Model card of an exported network: its data, scores, intended use and limits.

The card is written as `card.json` and, with the same facts, as `README.md`. Scores are from the
run's `scores.json`. The data are called AffectNet only if the labels are those of AffectNet.
"""

from __future__ import annotations

import datetime
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jinja2
import numpy as np

from affect_jax.config import find_paths, to_dict
from affect_jax.core.errors import UserError, first_line
from affect_jax.core.paths import write_atomically
from affect_jax.core.version import __version__
from affect_jax.data import preprocessing
from affect_jax.export import formats
from affect_jax.metrics import calibration
from affect_jax.metrics.protocol import HEADLINES
from affect_jax.predict.predictor import crop_options
from affect_jax.report import published_scores, runs
from affect_jax.report.templating import ENVIRONMENT
from affect_jax.run.trained_network import TrainedNetwork, is_export, read_card

UNIT_SOURCES = {
    "annotated": "annotated",
    "estimated": "estimated from 68 landmarks",
    "auto": "annotated if the data contain annotations, else estimated from 68 landmarks",
}
SHOWN_METADATA = ("fingerprint", "draws", "bootstrap", "interval", "time", "action_units")
SHOWN_METADATA += ("label_edits", "label_edits_of_training")
SHOWN_SCORES = (*HEADLINES, "categorical.top1.original.calibration_error")


def create_card(
    trained: TrainedNetwork, export_format: str, exported: Mapping[str, Any]
) -> dict[str, Any]:
    """Creates the content of `card.json`.

    **Arguments:**

    - `export_format`: as for `formats.write_network`.
    - `exported`: the return value of `formats.write_network`.
    """
    if is_export(trained.folder):
        earlier = read_card(trained.folder)
        evaluations, not_shown = earlier["evaluations"], earlier["not_shown"]
    else:
        earlier = {}
        evaluations, not_shown = _read_evaluations(trained)
    config = to_dict(trained.config)
    names = published_scores.DATA_NAMES
    if "AffectNet" not in [evaluation["data"] for evaluation in evaluations]:
        names = {**names, "affectnet": "faces in AffectNet’s layout"}
    parts = config["data"]["options"].get("parts", {"": config["data"]})
    used: list[str] = [part["name"] for part in parts.values()]
    data = " and ".join(names.get(name, name) for name in used)
    for holder, key in find_paths(config["data"]):
        holder[key] = ""  # the card contains no paths of a machine
    if not config["init_from"].startswith("hf://"):
        config["init_from"] = pathlib.PurePath(config["init_from"]).name
    shape = formats.image_shape(trained)
    margin, align = crop_options(trained)
    return {
        "is_ready": earlier.get("is_ready", False),
        "title": f"{trained.config.trunk.name} for {_list_heads(trained.network.heads)}",
        "format": export_format,
        "files": exported["files"],
        "largest_difference": exported.get("largest_difference", {}),
        "affect_jax": __version__,
        "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "data": data,
        "checkpoint_step": trained.step,
        "input": {"name": "image", "type": "uint8", "shape": ["batch", *shape]},
        "margin": margin,
        "align": align,
        "crop_size": trained.config.data.crop_size,
        "mirrored_average": trained.config.evaluation.mirror,
        "mean": list(preprocessing.IMAGENET_MEAN),
        "deviation": list(preprocessing.IMAGENET_STD),
        "outputs": formats.describe_outputs(trained),
        "calibration": earlier.get("calibration", {}),
        "evaluations": evaluations,
        "choosing_split": trained.config.evaluation.split if trained.config.checkpoint.best else "",
        "not_shown": not_shown,
        "config": config,
    }


def calibrate(trained: TrainedNetwork, part: str = "") -> dict[str, Any]:
    """Fits the temperature of the expression head to the run's evaluation of the checkpoint.

    **Arguments:** `part`: a part of a mixture; empty: all faces.

    **Returns:** `calibration` of the card: `temperature`; `split`, `part` and number of `faces`;
    `before` and `after`, the calibration error.

    **Raises:** `UserError` if there is no such evaluation, or the network is calibrated already.
    """
    split = trained.config.evaluation.split
    if trained.temperature != 1 or not trained.classes:
        raise UserError("--calibrate: needs a network with expressions that is not calibrated yet")
    run = runs.read_run(trained.folder / "evaluation" / split)
    if run.metadata.get("checkpoint_step") != trained.step:
        raise UserError(
            f"--calibrate: {split} was not scored at step {trained.step}; evaluate the run"
        )
    predictions = run.predictions
    assert predictions.expression is not None and predictions.probabilities is not None
    prefix = f"{part}/" if part else ""
    rows = (predictions.expression >= 0) & np.char.startswith(predictions.id, prefix)
    labels, probabilities = predictions.expression[rows], predictions.probabilities[rows]
    temperature = calibration.fit_temperature(labels, probabilities)
    scaled = calibration.scale_probabilities(probabilities, temperature)
    before, after = (
        calibration.create_calibration_scorer(labels, values)(np.ones((1, len(labels))))[0]
        for values in (probabilities, scaled)
    )
    about = {"temperature": temperature, "split": split, "part": part, "faces": len(labels)}
    return {**about, "before": before, "after": after}


def write_card(card: Mapping[str, Any], out: pathlib.Path) -> None:
    """Writes `card.json` and `README.md`, each atomically."""
    environment = ENVIRONMENT.overlay(
        loader=jinja2.PackageLoader("affect_jax.export"),
        autoescape=False,  # the card is Markdown, not HTML
        keep_trailing_newline=True,
    )
    is_synthetic = card["data"] == published_scores.DATA_NAMES["synthetic_faces"]
    unit_source = UNIT_SOURCES[card["config"]["data"]["action_units"]]
    if is_synthetic and card["config"]["data"]["action_units"] != "estimated":
        unit_source = "exact, because the faces are rendered from them"
    text = environment.get_template("README.md.jinja").render(
        card,
        heads=_list_heads(card["outputs"]),
        headlines=SHOWN_SCORES,
        is_synthetic=is_synthetic,
        unit_source=unit_source,
    )
    for name, content in (("card.json", json.dumps(card, indent=1) + "\n"), ("README.md", text)):
        with write_atomically(out / name) as partial:
            partial.write_text(content, encoding="utf-8")


def _list_heads(heads: Iterable[str]) -> str:
    return ", ".join(head.replace("valence_", "valence and ").replace("_", " ") for head in heads)


def _read_evaluations(trained: TrainedNetwork) -> tuple[list[dict[str, Any]], list[str]]:
    """Reads the run's evaluations of the exported checkpoint.

    **Returns:** the content of each `scores.json` without the details of the machine, and messages
    about evaluations that were skipped.
    """
    evaluations, skipped = [], []
    for path in sorted((trained.folder / "evaluation").glob("*/scores.json")):
        split = path.parent.name
        try:
            run = runs.read_run(path.parent)
        except UserError as error:
            skipped.append(f"{split}: {first_line(error)}")
            continue
        step = run.metadata.get("checkpoint_step")
        if step != trained.step:
            skipped.append(f"{split}: scored at step {step}, this is step {trained.step}")
            continue
        content = {"groups": {}} | json.loads(path.read_text())
        about = {key: run.metadata[key] for key in SHOWN_METADATA if key in run.metadata}
        parts = {key: content[key] for key in ("scores", "intervals", "undefined", "groups")}
        data, faces = published_scores.describe_data(run), len(run.predictions)
        evaluations.append({"split": split, "data": data, "faces": faces, **about, **parts})
    return evaluations, skipped
