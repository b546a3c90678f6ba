"""Summary of a run for its report: model, data, training, evaluation, machines and versions."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from affect_jax.report import published_scores
from affect_jax.report.runs import Run

DATA_NAMES = {
    "affectnet": "AffectNet",
    "synthetic_faces": "rendered faces (synthetic_faces)",
}
"""Display names of datasets; others are displayed by their own name."""

CONFIG_KEYS = {
    "Model": ("trunk.", "heads", "losses", "sampling.", "dtype", "seed"),
    "Training": ("duration.", "batch_size", "learning_rate", "schedule.name", "optimizer.name"),
}
"""Displayed keys of the config by heading; a prefix that ends with a dot selects several keys."""

EVALUATION_KEYS = ("checkpoint_step", "draws", "bootstrap", "time", "config")
"""Displayed keys of `about` in `scores.json`."""


def summarize(run: Run) -> dict[str, dict[str, Any]]:
    """Returns the facts of a run by heading, then by term; headings without facts are left out."""
    metadata = run.metadata
    # The predictions of a checkpoint are next to the page; only other files need their path.
    keys = (*EVALUATION_KEYS, "predictions", "sha256") if "sha256" in metadata else EVALUATION_KEYS
    sections = {
        "Model": _select_settings(run, "Model"),
        "Data": _summarize_data(run),
        "Training": _select_settings(run, "Training") | _summarize_log(run),
        "Evaluation": {key: metadata[key] for key in keys if key in metadata},
        "Training machine": metadata.get("machine_of_training", {}),
        "Evaluation machine": metadata.get("machine", {}),
        "Versions": metadata.get("versions", {}),
    }
    return {heading: facts for heading, facts in sections.items() if facts}


def _select_settings(run: Run, heading: str) -> dict[str, str]:
    keys = [key for key in run.config if key.startswith(CONFIG_KEYS[heading])]
    return {key: _format_setting(run.config[key]) for key in keys}


def _format_setting(value: Any) -> str:
    """Formats a value of the config; a component is its name with its options in parentheses."""
    if isinstance(value, Mapping):
        options = [f"{k} {v}" for k, v in value.items() if k not in ("name", "head")]
        return value["name"] + (f" ({', '.join(options)})" if options else "")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_format_setting, value))
    return str(value)


def _summarize_data(run: Run) -> dict[str, str]:
    metadata, predictions = run.metadata, run.predictions
    facts = {
        "dataset": describe_data(run),
        "split": metadata.get("split", ""),
        "faces": f"{len(predictions):,}",
        "classes": ", ".join(predictions.classes),
    }
    if predictions.expression is not None:
        facts["expression"] = f"{np.sum(predictions.expression >= 0):,} labels"
    if predictions.valence_arousal is not None:
        annotated = np.isfinite(predictions.valence_arousal).all(axis=1)
        facts["valence, arousal"] = f"{annotated.sum():,} labels"
    facts["not scored"] = "; ".join(metadata.get("not_scored", ()))
    facts["fingerprint"] = metadata.get("fingerprint", "")[:12]
    return {term: text for term, text in facts.items() if text}


def _summarize_log(run: Run) -> dict[str, str]:
    if not run.curves:
        return {}
    duration = datetime.timedelta(seconds=round(run.seconds))
    facts = {
        "steps logged": f"{max(curve.steps[-1] for curve in run.curves.values()):,}",
        "time": f"{duration} (h:mm:ss) between first and last log entry",
    }
    if "train.images_per_second" in run.curves:
        speed = np.median(run.curves["train.images_per_second"].values)
        facts["speed"] = f"{speed:,.0f} images/s (median)"
    return facts


def describe_data(run: Run) -> str:
    """Returns the dataset's display name, `data of unknown origin` if it is not named."""
    name = run.metadata.get("data", "")
    if name == "affectnet" and published_scores.why_not_comparable(run.metadata, run.predictions):
        return "faces in AffectNet’s layout"
    return DATA_NAMES.get(name, name) or "data of unknown origin"


def format_heading(run: Run) -> str:
    """Returns the page's title."""
    trunk = run.config["trunk.name"] if "trunk.name" in run.config else "Predictions"
    return f"{trunk} on {describe_data(run)}"


def format_lead(run: Run) -> str:
    """Returns the sentence below the title."""
    terms = run.config["losses"] if "losses" in run.config else ()
    losses = ", ".join(term["name"].replace("_", " ") for term in terms)
    step = run.metadata.get("checkpoint_step")
    parts = [f"{run.name}:", losses, "" if step is None else f"at step {step:,},"]
    split = f" of the {run.metadata['split']} split" if "split" in run.metadata else ""
    parts.append(f"scored on {len(run.predictions):,} faces{split}.")
    return " ".join(filter(None, parts))


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
