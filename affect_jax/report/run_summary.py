"""What was run, in words: model, data, evaluation, training, versions, machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from affect_jax.report import published_scores
from affect_jax.report.runs import Run

Pairs = list[tuple[str, str]]

DATA = {
    "affectnet": "AffectNet",
    "synthetic_faces": "rendered faces (synthetic_faces)",
}
"""What data sets are called in a sentence; others by their own name."""


def facts(run: Run) -> list[tuple[str, Pairs]]:
    """(heading, (term, text)) of all that is known of a run; no heading without a fact."""
    found = [
        ("Model", _model(run.config)),
        ("Data", _data(run)),
        ("Training", _training(run)),
        ("Evaluation", _evaluation(run.about)),
        ("Machine of the training", _pairs(run.about, "machine_of_training")),
        ("Machine of the evaluation", _pairs(run.about, "machine")),
        ("Versions", _pairs(run.about, "versions")),
    ]
    return [(heading, pairs) for heading, pairs in found if pairs]


def data_name(run: Run) -> str:
    """The data set in words, `data of unknown origin` where it was not named."""
    name = run.about["data"] if "data" in run.about else ""
    if name == "affectnet" and published_scores.why_not_comparable(run.about, run.table):
        return "faces in AffectNet’s layout"
    return DATA.get(name, name) or "data of unknown origin"


def heading(run: Run) -> str:
    """The page's title."""
    trunk = run.config["trunk.name"] if "trunk.name" in run.config else "Predictions"
    return f"{trunk} on {data_name(run)}"


def lead(run: Run) -> str:
    """One sentence below the title."""
    parts = [f"{run.name}:"]
    if "losses" in run.config:
        parts.append(", ".join(term["name"].replace("_", " ") for term in run.config["losses"]))
    if "checkpoint_step" in run.about:
        parts.append(f"at step {run.about['checkpoint_step']:,},")
    split = f" of the {run.about['split']} split" if "split" in run.about else ""
    return " ".join([*parts, f"scored on {len(run.table):,} faces{split}."])


def origin(run: Run) -> tuple[bool, list[str]]:
    """Whether the paper's numbers may stand beside the run's, and what the page says of it."""
    reason = published_scores.why_not_comparable(run.about, run.table)
    if reason:
        return False, [
            f"Not AffectNet: {data_name(run)}.",
            f"{reason} No number on this page may be compared with one published on AffectNet.",
        ]
    lines = ["AffectNet, validation split."]
    if run.table.probabilities is not None and published_scores.eight(run.table.classes):
        lines.append(
            "Published F1 beside it are the paper’s AlexNet, "
            f"{published_scores.strategy_of(run.config)}, on {published_scores.TEST}, which was not released and is "
            "skewed. The validation split has 500 faces of each expression, so here Orig and Norm "
            "are the same: compare with the paper’s Norm."
        )
    if run.table.valence_arousal_predicted is not None:
        lines.append(
            "Published scores of valence and arousal are the paper’s AlexNet on "
            f"{published_scores.VALIDATION}, as later work cites them."
        )
    return True, lines


def _model(config: Mapping[str, Any]) -> Pairs:
    if not config:
        return []
    trunk = {k.removeprefix("trunk."): v for k, v in config.items() if k.startswith("trunk.")}
    options = ", ".join(f"{k} {v}" for k, v in trunk.items() if k != "name")
    return [
        ("trunk", trunk["name"] + (f" ({options})" if options else "")),
        ("heads", ", ".join(config["heads"])),
        ("losses", "; ".join(_spec(term) for term in config["losses"])),
        ("sampling", config["sampling.name"]),
        ("arithmetic", config["dtype"]),
        ("seed", str(config["seed"])),
    ]


def _spec(term: Mapping[str, Any]) -> str:
    options = [f"{k} {v}" for k, v in term.items() if k not in ("name", "head")]
    return term["name"] + (f" ({', '.join(options)})" if options else "")


def _data(run: Run) -> Pairs:
    about = run.about
    pairs = [("set", data_name(run))]
    pairs += [(k, str(about[k])) for k in ("split",) if k in about]
    pairs.append(("faces", f"{len(run.table):,}"))
    table = run.table
    if table.classes:
        pairs.append(("classes", ", ".join(table.classes)))
    if table.expression is not None:
        pairs.append(("with expression", f"{int((table.expression >= 0).sum()):,}"))
    if table.valence_arousal is not None:
        known = np.isfinite(table.valence_arousal).all(axis=1)
        pairs.append(("with both axes", f"{int(known.sum()):,}"))
    if "not_scored" in about:
        pairs.append(("not scored", "; ".join(about["not_scored"])))
    if "fingerprint" in about:
        pairs.append(("fingerprint", str(about["fingerprint"])[:12]))
    return pairs


def _training(run: Run) -> Pairs:
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
        pairs.append(("time", f"{clock(run.seconds)}, from the log’s first line to its last"))
    if "train.images_per_second" in run.curves:
        speed = float(np.median(run.curves["train.images_per_second"].values))
        pairs.append(("speed", f"{speed:,.0f} images/s (median)"))
    return pairs


def _evaluation(about: Mapping[str, Any]) -> Pairs:
    pairs = []
    if "checkpoint_step" in about:
        pairs.append(("checkpoint", f"step {about['checkpoint_step']:,}"))
    if "draws" in about:
        pairs.append(("Norm", f"{about['draws']:,} draws"))
        pairs.append(("intervals", f"{about['bootstrap']:,} bootstrap samples"))
    # The table of a checkpoint lies beside the page; another's was somewhere.
    scored = ("predictions", "sha256") if "sha256" in about else ()
    pairs += [(k, str(about[k])) for k in (*scored, "time") if k in about]
    if "config" in about:
        pairs.append(("config’s digest", str(about["config"])))
    return pairs


def _pairs(about: Mapping[str, Any], key: str) -> Pairs:
    return [(name, str(text)) for name, text in about[key].items()] if key in about else []


def clock(seconds: float) -> str:
    """`2 h 05 min`, `3 min 20 s`, `12 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def config_rows(run: Run) -> list[tuple[str, str]]:
    """Every key of the config and its value as JSON."""
    return [(key, json.dumps(value)) for key, value in run.config.items()]
