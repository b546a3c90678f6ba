"""Summary of a run for its report: model, data, training, evaluation, machines and versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from affect_jax.report import published_scores
from affect_jax.report.runs import Run

Pairs = list[tuple[str, str]]

DATA_NAMES = {
    "affectnet": "AffectNet",
    "synthetic_faces": "rendered faces (synthetic_faces)",
}
"""Display names of datasets; others are displayed by their own name."""


def summarize(run: Run) -> list[tuple[str, Pairs]]:
    """Returns (heading, (term, text) pairs) of a run; headings without facts are left out."""
    sections = [
        ("Model", _summarize_model(run.config)),
        ("Data", _summarize_data(run)),
        ("Training", _summarize_training(run)),
        ("Evaluation", _summarize_evaluation(run.metadata)),
        ("Training machine", _metadata_pairs(run.metadata, "machine_of_training")),
        ("Evaluation machine", _metadata_pairs(run.metadata, "machine")),
        ("Versions", _metadata_pairs(run.metadata, "versions")),
    ]
    return [(heading, pairs) for heading, pairs in sections if pairs]


def describe_data(run: Run) -> str:
    """Returns the dataset's display name, `data of unknown origin` if it is not named."""
    name = run.metadata["data"] if "data" in run.metadata else ""
    if name == "affectnet" and published_scores.why_not_comparable(run.metadata, run.predictions):
        return "faces in AffectNet’s layout"
    return DATA_NAMES.get(name, name) or "data of unknown origin"


def format_heading(run: Run) -> str:
    """Returns the page's title."""
    trunk = run.config["trunk.name"] if "trunk.name" in run.config else "Predictions"
    return f"{trunk} on {describe_data(run)}"


def format_lead(run: Run) -> str:
    """Returns the sentence below the title."""
    parts = [f"{run.name}:"]
    if "losses" in run.config:
        parts.append(", ".join(term["name"].replace("_", " ") for term in run.config["losses"]))
    if "checkpoint_step" in run.metadata:
        parts.append(f"at step {run.metadata['checkpoint_step']:,},")
    split = f" of the {run.metadata['split']} split" if "split" in run.metadata else ""
    return " ".join([*parts, f"scored on {len(run.predictions):,} faces{split}."])


def describe_comparability(run: Run) -> tuple[bool, list[str]]:
    """Returns whether the run is comparable with the paper, and the page's notice about it."""
    reason = published_scores.why_not_comparable(run.metadata, run.predictions)
    if reason:
        return False, [
            f"Not AffectNet: {describe_data(run)}.",
            f"{reason} Do not compare the scores on this page with scores published on AffectNet.",
        ]
    lines = ["AffectNet, validation split."]
    if run.predictions.probabilities is not None and published_scores.has_paper_classes(
        run.predictions.classes
    ):
        strategy = published_scores.infer_strategy(run.config)
        lines.append(
            f"The published F1 scores are those of the paper’s AlexNet, {strategy}, on "
            f"{published_scores.TEST_SPLIT}, which was not released and is skewed. The validation "
            "split has 500 faces of each expression, so Orig and Norm are the same; compare them "
            "with the paper’s Norm."
        )
    if run.predictions.valence_arousal_predicted is not None:
        lines.append(
            "The published scores of valence and arousal are those of the paper’s AlexNet on "
            f"{published_scores.VALIDATION_SPLIT}, as later work cites them."
        )
    return True, lines


def _summarize_model(config: Mapping[str, Any]) -> Pairs:
    if not config:
        return []
    trunk_options = {
        k.removeprefix("trunk."): v for k, v in config.items() if k.startswith("trunk.")
    }
    options = ", ".join(f"{k} {v}" for k, v in trunk_options.items() if k != "name")
    return [
        ("trunk", trunk_options["name"] + (f" ({options})" if options else "")),
        ("heads", ", ".join(config["heads"])),
        ("losses", "; ".join(_format_loss(term) for term in config["losses"])),
        ("sampling", config["sampling.name"]),
        ("dtype", config["dtype"]),
        ("seed", str(config["seed"])),
    ]


def _format_loss(loss: Mapping[str, Any]) -> str:
    options = [f"{k} {v}" for k, v in loss.items() if k not in ("name", "head")]
    return loss["name"] + (f" ({', '.join(options)})" if options else "")


def _summarize_data(run: Run) -> Pairs:
    metadata = run.metadata
    pairs = [("dataset", describe_data(run))]
    pairs += [(k, str(metadata[k])) for k in ("split",) if k in metadata]
    pairs.append(("faces", f"{len(run.predictions):,}"))
    predictions = run.predictions
    if predictions.classes:
        pairs.append(("classes", ", ".join(predictions.classes)))
    if predictions.expression is not None:
        pairs.append(("expression labels", f"{int((predictions.expression >= 0).sum()):,}"))
    if predictions.valence_arousal is not None:
        annotated = np.isfinite(predictions.valence_arousal).all(axis=1)
        pairs.append(("valence and arousal labels", f"{int(annotated.sum()):,}"))
    if "not_scored" in metadata:
        pairs.append(("not scored", "; ".join(metadata["not_scored"])))
    if "fingerprint" in metadata:
        pairs.append(("fingerprint", str(metadata["fingerprint"])[:12]))
    return pairs


def _summarize_training(run: Run) -> Pairs:
    config = run.config
    if not config:
        return []
    duration = config["duration.epochs"] or config["duration.steps"]
    unit = "epochs" if config["duration.epochs"] else "steps"
    pairs = [
        ("duration", f"{duration:g} {unit if duration != 1 else unit[:-1]}"),
        ("batch", f"{config['batch_size']:,}"),
        ("learning rate", f"{config['learning_rate']:g}, {config['schedule.name']}"),
        ("optimizer", config["optimizer.name"]),
    ]
    if run.curves:
        pairs.append(("steps logged", f"{max(c.steps[-1] for c in run.curves.values()):,}"))
        pairs.append(("time", f"{format_duration(run.seconds)}, between first and last log entry"))
    if "train.images_per_second" in run.curves:
        speed = float(np.median(run.curves["train.images_per_second"].values))
        pairs.append(("speed", f"{speed:,.0f} images/s (median)"))
    return pairs


def _summarize_evaluation(metadata: Mapping[str, Any]) -> Pairs:
    pairs = []
    if "checkpoint_step" in metadata:
        pairs.append(("checkpoint", f"step {metadata['checkpoint_step']:,}"))
    if "draws" in metadata:
        pairs.append(("Norm", f"{metadata['draws']:,} draws"))
        pairs.append(("intervals", f"{metadata['bootstrap']:,} bootstrap samples"))
    # The predictions of a checkpoint are next to the page; only other files need their path.
    file_keys = ("predictions", "sha256") if "sha256" in metadata else ()
    pairs += [(k, str(metadata[k])) for k in (*file_keys, "time") if k in metadata]
    if "config" in metadata:
        pairs.append(("config digest", str(metadata["config"])))
    return pairs


def _metadata_pairs(metadata: Mapping[str, Any], key: str) -> Pairs:
    return [(name, str(text)) for name, text in metadata[key].items()] if key in metadata else []


def format_duration(seconds: float) -> str:
    """`2 h 05 min`, `3 min 20 s`, `12 s`."""
    minutes, remaining = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {remaining:02d} s" if minutes else f"{remaining} s"


def format_config(run: Run) -> list[tuple[str, str]]:
    """Every key of the config and its value as JSON."""
    return [(key, json.dumps(value)) for key, value in run.config.items()]
