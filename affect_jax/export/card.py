"""A model card: what an exported network is, where its scores come from, what it is not for.

Two files with the same facts: `card.json` for programs, `README.md` for people. Numbers are those
of the run's `scores.json` and no others; AffectNet is named only where the labels are AffectNet's.
"""

from __future__ import annotations

import datetime
import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from affect_jax.config import PLACES, to_dict
from affect_jax.core.errors import UserError
from affect_jax.core.version import __version__
from affect_jax.data import preprocessing
from affect_jax.export import formats, groups, usage
from affect_jax.metrics.protocol import HEADLINES
from affect_jax.report import published_scores, run_summary, runs, score_names
from affect_jax.run.load import TrainedNetwork


def create(
    trained: TrainedNetwork,
    form: str,
    made: Mapping[str, Any],
    groupings: groups.Groupings | None = None,
) -> dict[str, Any]:
    """What `card.json` holds.

    **Arguments:**

    - `form`: one of `formats.FORMATS`.
    - `made`: what `formats.write` returned.
    - `groupings`: of people, as `groups.read` gives them.

    **Raises:** `UserError` where no face that was scored is in any of the groups.
    """
    evaluations, missing = _evaluations(trained)
    scored = [_numbers(split, run, groupings or {}) for split, run in evaluations]
    if groupings and not any(one["groupings"] for one in scored):
        raise UserError("--groups: no id is a face that this checkpoint was scored on")
    size, _, _ = formats.image_shape(trained)
    return {
        "title": f"{trained.config.trunk.name} for {_told(trained.network.heads)}",
        "format": form,
        "files": made["files"],
        "largest_difference": made["largest_difference"] if "largest_difference" in made else {},
        "affect_jax": __version__,
        "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "data": _data_name(trained, [run for _, run in evaluations]),
        "checkpoint_step": trained.step,
        "input": {"name": "image", "type": "uint8", "shape": ["batch", size, size, 3]},
        "crop_size": trained.config.data.crop_size,
        "mirrored_average": trained.config.evaluation.mirror,
        "mean": list(preprocessing.MEAN),
        "deviation": list(preprocessing.DEVIATION),
        "outputs": formats.outputs(trained),
        "evaluations": scored,
        "choosing_split": trained.config.evaluation.split if trained.config.checkpoint.best else "",
        "not_shown": missing,
        "config": _public(trained),
    }


def write(card: Mapping[str, Any], out: pathlib.Path) -> None:
    """Writes both files; each appears whole or not at all."""
    for name, text in (("card.json", json.dumps(card, indent=1)), ("README.md", markdown(card))):
        partial = out / f"{name}.partial"
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(out / name)


_HEADS = {
    "expression": "expression",
    "valence_arousal": "valence and arousal",
    "action_units": "action units",
}


def _told(heads: Iterable[str]) -> str:
    *others, last = (_HEADS[head] for head in heads)
    return f"{', '.join(others)} and {last}" if others else last


def _evaluations(trained: TrainedNetwork) -> tuple[list[tuple[str, runs.Run]], list[str]]:
    """The run's evaluations of this very checkpoint; and why others are not among them."""
    found, missing = [], []
    for path in sorted((trained.folder / "evaluation").glob("*/scores.json")):
        split = path.parent.name
        try:
            run = runs.read(path.parent)
        except UserError as error:
            missing.append(f"{split}: {str(error).splitlines()[0]}")
            continue
        step = run.about["checkpoint_step"] if "checkpoint_step" in run.about else None
        if step == trained.step:
            found.append((split, run))
        else:
            missing.append(f"{split}: scored at step {step}, this is step {trained.step}")
    return found, missing


def _data_name(trained: TrainedNetwork, evaluated: Sequence[runs.Run]) -> str:
    """What the network was trained on, in words; AffectNet only where its labels say so."""
    name = trained.config.data.name
    if name == "affectnet":
        proven = any(
            not published_scores.why_not_comparable(run.about, run.table) for run in evaluated
        )
        return "AffectNet" if proven else "faces in AffectNet’s layout"
    return run_summary.DATA[name] if name in run_summary.DATA else name


def _numbers(split: str, run: runs.Run, groupings: groups.Groupings) -> dict[str, Any]:
    """One `scores.json`, without what is of the machine it was made on."""
    kept = ("fingerprint", "faces", "draws", "bootstrap", "interval", "time", "action_units")
    return {
        "split": split,
        "data": run_summary.data_name(run),
        **{key: run.about[key] for key in kept if key in run.about},
        "scores": {n: None if math.isnan(v) else v for n, v in run.scores.values.items()},
        "intervals": {name: list(ends) for name, ends in run.scores.intervals.items()},
        "undefined": dict(run.scores.reasons),
        "groupings": [one for one in groups.scored(run.table, groupings) if one["groups"]],
    }


def _public(trained: TrainedNetwork) -> dict[str, Any]:
    """The config without paths of the machine it ran on."""
    config = to_dict(trained.config)
    config["data"] |= dict.fromkeys(PLACES, "")
    if not config["init_from"].startswith("hf://"):
        config["init_from"] = pathlib.PurePath(config["init_from"]).name
    return config


def markdown(card: Mapping[str, Any]) -> str:
    """The card for people: what `card.json` holds, in words and tables."""
    sections = [
        f"# {card['title']}",
        _what(card),
        "## How to run it",
        usage.text(card),
        "## Data",
        _data(card),
        "## Scores",
        *(_scores(card, one) for one in card["evaluations"]),
        *_without_scores(card),
        "## Groups",
        *(_by_class(one) for one in card["evaluations"]),
        *(_by_group(one, part) for one in card["evaluations"] for part in one["groupings"]),
        SERVED if any(one["groupings"] for one in card["evaluations"]) else GROUPS,
        "## Intended use",
        INTENDED,
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(card)),
        "## Licence",
        _licence(card),
    ]
    return "\n\n".join(section for section in sections if section)


def _what(card: Mapping[str, Any]) -> str:
    rows = []
    for head, output in card["outputs"].items():
        names = ", ".join(output["names"])
        rows.append((f"`{head}`", f"[batch, {len(output['names'])}]", output["meaning"], names))
    size = card["input"]["shape"][1]
    cut = f"the middle {card['crop_size']} x {card['crop_size']} pixels are used"
    mirrored = ", and each prediction is the mean of the face's and its mirror image's"
    return (
        f"A network from faces to {_told(card['outputs'])}, written by affect_jax "
        f"{card['affect_jax']} from step {card['checkpoint_step']:,} of a run.\n\n"
        f"Input: `image`, uint8 [batch, {size}, {size}, 3], RGB, one face an image, cut as for "
        f"training. Cropping ({cut}) and normalisation are inside"
        f"{mirrored if card['mirrored_average'] else ''}.\n\n"
        + _table(rows, ("output", "shape", "what it is", "in this order"))
    )


_UNITS = {
    "annotated": "annotated",
    "estimated": "estimated from 68 landmarks",
    "auto": "annotated where the data have them and else estimated from 68 landmarks",
}


def _data(card: Mapping[str, Any]) -> str:
    config = card["config"]
    lines = [f"Trained on {card['data']}, its training split."]
    if config["init_from"]:
        lines.append(f"It started from the weights of `{config['init_from']}`.")
    if "action_units" in config["heads"]:
        drawn = card["data"] == run_summary.DATA["synthetic_faces"] and not _estimated(card)
        how = "drawn, so that they are exact" if drawn else _UNITS[config["data"]["action_units"]]
        lines.append(f"Its action units were {how}.")
    return " ".join(lines)


def _estimated(card: Mapping[str, Any]) -> bool:
    """Whether units may have been estimated from landmarks; every drawn face has its own."""
    how = card["config"]["data"]["action_units"]
    return how == "estimated" or (
        how == "auto" and card["data"] != run_summary.DATA["synthetic_faces"]
    )


def _scores(card: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    wanted = (*HEADLINES, "categorical.top1.original.calibration_error")
    names = [name for name in wanted if name in one["scores"]]
    parts = [f"{one['data']}, {one['split']} split"]
    parts += [f"{one['faces']:,} faces"] if "faces" in one else []
    text = f"Of {', '.join(parts)}."
    if one["split"] == card["choosing_split"]:
        text += " The run keeps the checkpoint that is best on this split: it is no true test set."
    if "AffectNet" != one["data"]:
        text += " These numbers may not be compared with ones published on other data."
    if one["intervals"]:
        text += " Intervals: 95 %, by bootstrap over the faces."
    if "action_units" in one:
        text += f" Labels of action units: {one['action_units']}."
    rows = [(score_names.title(name), *_cells(one, name)) for name in names]
    return f"{text}\n\n" + _table(rows, ("score", "value", "95 % interval"))


def _cells(one: Mapping[str, Any], name: str) -> tuple[str, str]:
    return score_names.number(one["scores"][name]), score_names.interval(one["intervals"], name)


def _without_scores(card: Mapping[str, Any]) -> list[str]:
    lines = [f"Not shown: {reason}." for reason in card["not_shown"]]
    if not card["evaluations"]:
        lines.insert(
            0,
            "This checkpoint has not been evaluated: nothing is known of how good it is. "
            "`python -m affect_jax.main --mode=evaluate` scores it.",
        )
    return lines


RECALL, F1 = "categorical.top1.original.recall.", "categorical.top1.original.f1."


def _by_class(one: Mapping[str, Any]) -> str:
    """Recall and F1 of each expression: how unlike the groups are that there are labels of."""
    classes = [n.removeprefix(RECALL) for n in one["scores"] if n.startswith(RECALL)]
    rows = [
        (name, *_cells(one, RECALL + name), *_cells(one, F1 + name))
        for name in classes
        if name != "macro"
    ]
    if not rows:
        return ""
    headers = ("expression", "recall", "95 % interval", "F1", "95 % interval")
    return f"By expression, {one['split']} split:\n\n" + _table(rows, headers)


def _by_group(one: Mapping[str, Any], grouping: Mapping[str, Any]) -> str:
    """Scores of each group of one grouping."""
    names = list(grouping["groups"][0]["scores"])
    titles = [score_names.title(name).split(" · ")[0] for name in names]
    rows = [
        (part["group"], f"{part['faces']:,}", *(" ".join(_bracketed(part, n)) for n in names))
        for part in grouping["groups"]
    ]
    unknown = f"; {grouping['unknown']:,} faces are in none" if grouping["unknown"] else ""
    head = f"By {grouping['name']}, {one['split']} split{unknown}:"
    return f"{head}\n\n" + _table(rows, (grouping["name"], "faces", *titles))


def _bracketed(part: Mapping[str, Any], name: str) -> Iterable[str]:
    yield score_names.number(part["scores"][name])
    if name in part["intervals"]:
        yield f"({score_names.interval(part['intervals'], name)})"


SERVED = (
    "In brackets: 95 % intervals, by bootstrap over the group's faces. Macro-F1 of a group is over "
    "the expressions that it has faces of. A group that is served worse here is to be expected to "
    "be served worse elsewhere; of groups that are not listed nothing is known."
)
GROUPS = (
    "No group labels in this data set: nothing is known of how predictions differ between ages, "
    "genders, skin colours or cultures. Measure that before any use: `--groups=FILE.csv`, a column "
    "`id` and one a grouping, puts the scores of each group here."
)
INTENDED = (
    "Research on facial expressions: what a face shows, as people who looked at the picture named "
    "it. Not for what a person feels or means, and for no decision about a person. The European "
    "Union forbids systems that infer emotions at work and in education, but for medical or "
    "safety reasons (Regulation 2024/1689, Article 5)."
)


def _limits(card: Mapping[str, Any]) -> Iterable[str]:
    yield "One face an image, found and cut as in training."
    yield "A prediction comes for every image, also for one without a face."
    yield "A probability is a network's opinion; the calibration error says how far it is off."
    if card["data"] == run_summary.DATA["synthetic_faces"]:
        yield "Trained on drawings: of photographs it knows nothing."
    if "action_units" in card["outputs"] and _estimated(card):
        yield "Of action units estimated from landmarks a network learns what that estimate sees."
    if card["config"]["dtype"] != "float32":
        yield f"Trained and scored in {card['config']['dtype']}; this file computes in float32."


def _licence(card: Mapping[str, Any]) -> str:
    started = card["config"]["init_from"]
    others = (
        f" The weights it started from (`{started}`) have their own licence." if started else ""
    )
    if card["data"] == run_summary.DATA["synthetic_faces"]:
        return f"Faces and code are affect_jax's: Apache-2.0.{others}"
    return (
        "The code that made this file is Apache-2.0. What may be done with the network depends on "
        f"the licence of the faces it was trained on ({card['data']}); this card grants nothing."
        f"{others}"
    )


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    safe = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(safe, headers, tablefmt="github", disable_numparse=True)
