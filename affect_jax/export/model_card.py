"""Model card of an exported network: its data, scores, intended use and limits.

The card is written as `card.json` and, with the same facts, as `README.md`. Scores are from the
run's `scores.json`, scores by group from its predictions. The data are called AffectNet only if the
labels are those of AffectNet.
"""

from __future__ import annotations

import datetime
import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from affect_jax.config import PATH_KEYS, to_dict
from affect_jax.core.errors import UserError
from affect_jax.core.version import __version__
from affect_jax.data import preprocessing
from affect_jax.export import formats, group_scores, usage_examples
from affect_jax.metrics.protocol import HEADLINES
from affect_jax.report import published_scores, run_summary, runs, score_names
from affect_jax.run.trained_network import TrainedNetwork


def create_card(
    trained: TrainedNetwork,
    export_format: str,
    exported: Mapping[str, Any],
    group_labels: group_scores.GroupLabels | None = None,
) -> dict[str, Any]:
    """Creates the content of `card.json`.

    **Arguments:**

    - `export_format`: one of `formats.FORMATS`.
    - `exported`: the return value of `formats.write_network`.
    - `group_labels`: the return value of `group_scores.read_group_labels`.

    **Raises:** `UserError` if none of the scored faces has a group label.
    """
    runs_by_split, missing = _read_evaluations(trained)
    evaluations = [
        _summarize_scores(split, run, group_labels or {}) for split, run in runs_by_split
    ]
    if group_labels and not any(evaluation["groupings"] for evaluation in evaluations):
        raise UserError("--groups: no id is that of a face on which this checkpoint was scored")
    size, _, _ = formats.image_shape(trained)
    return {
        "title": f"{trained.config.trunk.name} for {_list_heads(trained.network.heads)}",
        "format": export_format,
        "files": exported["files"],
        "largest_difference": exported.get("largest_difference", {}),
        "affect_jax": __version__,
        "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "data": _data_name(trained, [run for _, run in runs_by_split]),
        "checkpoint_step": trained.step,
        "input": {"name": "image", "type": "uint8", "shape": ["batch", size, size, 3]},
        "crop_size": trained.config.data.crop_size,
        "mirrored_average": trained.config.evaluation.mirror,
        "mean": list(preprocessing.IMAGENET_MEAN),
        "deviation": list(preprocessing.IMAGENET_STD),
        "outputs": formats.describe_outputs(trained),
        "evaluations": evaluations,
        "choosing_split": trained.config.evaluation.split if trained.config.checkpoint.best else "",
        "not_shown": missing,
        "config": _config_without_paths(trained),
    }


def write_card(card: Mapping[str, Any], out: pathlib.Path) -> None:
    """Writes `card.json` and `README.md`, each atomically."""
    for name, text in (("card.json", json.dumps(card, indent=1)), ("README.md", to_markdown(card))):
        partial_path = out / f"{name}.partial"
        partial_path.write_text(text + "\n", encoding="utf-8")
        partial_path.replace(out / name)


_HEAD_TITLES = {
    "expression": "expression",
    "valence_arousal": "valence and arousal",
    "action_units": "action units",
}


def _list_heads(heads: Iterable[str]) -> str:
    *titles, last = (_HEAD_TITLES[head] for head in heads)
    return f"{', '.join(titles)} and {last}" if titles else last


def _read_evaluations(trained: TrainedNetwork) -> tuple[list[tuple[str, runs.Run]], list[str]]:
    """Reads the run's evaluations of the exported checkpoint.

    **Returns:** pairs of split and evaluation, and messages about evaluations that were skipped.
    """
    evaluations, missing = [], []
    for path in sorted((trained.folder / "evaluation").glob("*/scores.json")):
        split = path.parent.name
        try:
            run = runs.read_run(path.parent)
        except UserError as error:
            missing.append(f"{split}: {str(error).splitlines()[0]}")
            continue
        step = run.metadata["checkpoint_step"] if "checkpoint_step" in run.metadata else None
        if step == trained.step:
            evaluations.append((split, run))
        else:
            missing.append(f"{split}: scored at step {step}, this is step {trained.step}")
    return evaluations, missing


def _data_name(trained: TrainedNetwork, evaluations: Sequence[runs.Run]) -> str:
    """Name of the training data; "AffectNet" only if an evaluation has AffectNet's labels."""
    name = trained.config.data.name
    if name == "affectnet":
        is_affectnet = any(
            not published_scores.why_not_comparable(run.metadata, run.predictions)
            for run in evaluations
        )
        return "AffectNet" if is_affectnet else "faces in AffectNet’s layout"
    return run_summary.DATA_NAMES[name] if name in run_summary.DATA_NAMES else name


def _summarize_scores(
    split: str, run: runs.Run, group_labels: group_scores.GroupLabels
) -> dict[str, Any]:
    """The content of one `scores.json` without the details of the machine."""
    keys = ("fingerprint", "faces", "draws", "bootstrap", "interval", "time", "action_units")
    groupings = group_scores.score_groups(run.predictions, group_labels)
    return {
        "split": split,
        "data": run_summary.describe_data(run),
        **{key: run.metadata[key] for key in keys if key in run.metadata},
        "scores": {n: None if math.isnan(v) else v for n, v in run.scores.values.items()},
        "intervals": {name: list(ends) for name, ends in run.scores.intervals.items()},
        "undefined": dict(run.scores.reasons),
        "groupings": [grouping for grouping in groupings if grouping["groups"]],
    }


def _config_without_paths(trained: TrainedNetwork) -> dict[str, Any]:
    """The run's config without the paths of its machine."""
    config = to_dict(trained.config)
    config["data"] |= dict.fromkeys(PATH_KEYS, "")
    if not config["init_from"].startswith("hf://"):
        config["init_from"] = pathlib.PurePath(config["init_from"]).name
    return config


def to_markdown(card: Mapping[str, Any]) -> str:
    """Formats the card as Markdown."""
    evaluations = card["evaluations"]
    has_groups = any(evaluation["groupings"] for evaluation in evaluations)
    sections = [
        f"# {card['title']}",
        _describe_network(card),
        "## Usage",
        usage_examples.format_usage(card),
        "## Data",
        _describe_data(card),
        "## Scores",
        *(_scores_table(card, evaluation) for evaluation in evaluations),
        *_missing_scores(card),
        "## Scores by group",
        *(_class_table(evaluation) for evaluation in evaluations),
        *(
            _group_table(evaluation, grouping)
            for evaluation in evaluations
            for grouping in evaluation["groupings"]
        ),
        GROUP_SCORES_NOTE if has_groups else NO_GROUPS_NOTE,
        "## Intended use",
        INTENDED_USE,
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(card)),
        "## Licence",
        _licence(card),
    ]
    return "\n\n".join(section for section in sections if section)


def _describe_network(card: Mapping[str, Any]) -> str:
    rows = []
    for head, output in card["outputs"].items():
        names = ", ".join(output["names"])
        rows.append((f"`{head}`", f"[batch, {len(output['names'])}]", output["meaning"], names))
    size, crop_size = card["input"]["shape"][1], card["crop_size"]
    mirrored = " Each prediction is the mean over the face and its mirror image."
    return (
        f"A network that predicts {_list_heads(card['outputs'])} from face images, exported by "
        f"affect_jax {card['affect_jax']} from step {card['checkpoint_step']:,} of a run.\n\n"
        f"Input: `image`, uint8 [batch, {size}, {size}, 3], RGB, one face per image, cropped as in "
        f"training. The network includes the centre crop of {crop_size} x {crop_size} pixels and "
        f"the normalisation.{mirrored if card['mirrored_average'] else ''}\n\n"
        + _table(rows, ("output", "shape", "meaning", "order"))
    )


_UNIT_SOURCES = {
    "annotated": "annotated",
    "estimated": "estimated from 68 landmarks",
    "auto": "annotated if the data contain annotations, else estimated from 68 landmarks",
}


def _describe_data(card: Mapping[str, Any]) -> str:
    config = card["config"]
    sentences = [f"Trained on the training split of {card['data']}."]
    if config["init_from"]:
        sentences.append(f"Training started from the weights of `{config['init_from']}`.")
    if "action_units" in config["heads"]:
        if _is_synthetic(card) and not _has_estimated_units(card):
            source = "exact, because the faces are rendered from them"
        else:
            source = _UNIT_SOURCES[config["data"]["action_units"]]
        sentences.append(f"The labels of action units are {source}.")
    return " ".join(sentences)


def _is_synthetic(card: Mapping[str, Any]) -> bool:
    return card["data"] == run_summary.DATA_NAMES["synthetic_faces"]


def _has_estimated_units(card: Mapping[str, Any]) -> bool:
    """Whether action units may be estimated from landmarks; rendered faces have exact ones."""
    source = card["config"]["data"]["action_units"]
    return source == "estimated" or (source == "auto" and not _is_synthetic(card))


def _scores_table(card: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    headlines = (*HEADLINES, "categorical.top1.original.calibration_error")
    names = [name for name in headlines if name in evaluation["scores"]]
    parts = [f"{evaluation['data']}, {evaluation['split']} split"]
    parts += [f"{evaluation['faces']:,} faces"] if "faces" in evaluation else []
    text = f"Scores on {', '.join(parts)}."
    if evaluation["split"] == card["choosing_split"]:
        text += (
            " The checkpoint was selected as the best on this split, so the scores are not those "
            "of an independent test set."
        )
    if "AffectNet" != evaluation["data"]:
        text += " These scores are not comparable with scores published on other data."
    if evaluation["intervals"]:
        text += " Intervals: 95 %, bootstrap over the faces."
    if "action_units" in evaluation:
        text += f" Labels of action units: {evaluation['action_units']}."
    rows = [(score_names.format_title(name), *_score_cells(evaluation, name)) for name in names]
    return f"{text}\n\n" + _table(rows, ("score", "value", "95 % interval"))


def _score_cells(evaluation: Mapping[str, Any], name: str) -> tuple[str, str]:
    score = score_names.format_score(evaluation["scores"][name])
    return score, score_names.format_interval(evaluation["intervals"], name)


def _missing_scores(card: Mapping[str, Any]) -> list[str]:
    lines = [f"Not shown: {reason}." for reason in card["not_shown"]]
    if not card["evaluations"]:
        lines.insert(
            0,
            "This checkpoint has not been evaluated, so its accuracy is unknown. "
            "`python -m affect_jax.main --mode=evaluate` scores it.",
        )
    return lines


RECALL, F1 = "categorical.top1.original.recall.", "categorical.top1.original.f1."


def _class_table(evaluation: Mapping[str, Any]) -> str:
    """Table of recall and F1 of each expression; these groups need no group labels."""
    classes = [n.removeprefix(RECALL) for n in evaluation["scores"] if n.startswith(RECALL)]
    rows = [
        (name, *_score_cells(evaluation, RECALL + name), *_score_cells(evaluation, F1 + name))
        for name in classes
        if name != "macro"
    ]
    if not rows:
        return ""
    headers = ("expression", "recall", "95 % interval", "F1", "95 % interval")
    return f"By expression, {evaluation['split']} split:\n\n" + _table(rows, headers)


def _group_table(evaluation: Mapping[str, Any], grouping: Mapping[str, Any]) -> str:
    """Table of the scores of each group of one grouping."""
    names = list(grouping["groups"][0]["scores"])
    titles = [score_names.format_title(name).split(" · ")[0] for name in names]
    rows = [
        (group["group"], f"{group['faces']:,}", *(_group_cell(group, name) for name in names))
        for group in grouping["groups"]
    ]
    num_unknown = grouping["unknown"]
    unknown = f"; {num_unknown:,} faces have no group label" if num_unknown else ""
    heading = f"By {grouping['name']}, {evaluation['split']} split{unknown}:"
    return f"{heading}\n\n" + _table(rows, (grouping["name"], "faces", *titles))


def _group_cell(group: Mapping[str, Any], name: str) -> str:
    score = score_names.format_score(group["scores"][name])
    if name not in group["intervals"]:
        return score
    return f"{score} ({score_names.format_interval(group['intervals'], name)})"


GROUP_SCORES_NOTE = (
    "In parentheses: 95 % intervals, bootstrap over the faces of the group. The macro-F1 of a "
    "group is the mean over the expressions that occur in it. Expect a group with lower scores "
    "here to have lower scores on other data too. The performance on groups that are not listed "
    "is unknown."
)
NO_GROUPS_NOTE = (
    "This dataset has no group labels: the performance by age, gender, skin colour or culture is "
    "unknown. Measure it before any use: `--groups=FILE.csv`, with a column `id` and one column "
    "for each grouping, adds the scores of each group to this card."
)
INTENDED_USE = (
    "Research on facial expressions: the network predicts how people who looked at the image "
    "labelled the expression. It does not predict what a person feels or means, and must not be "
    "used for decisions about a person. The European Union forbids systems that infer emotions at "
    "work and in education, except for medical or safety reasons (Regulation 2024/1689, Article 5)."
)


def _limits(card: Mapping[str, Any]) -> Iterable[str]:
    yield "The input is one face per image, detected and cropped as in training."
    yield "The network returns a prediction for every image, even for one without a face."
    yield "The probabilities are estimates; the calibration error shows how accurate they are."
    if _is_synthetic(card):
        yield "The network was trained on rendered faces only, not on photographs."
    if "action_units" in card["outputs"] and _has_estimated_units(card):
        yield "The network learned estimated action units, including the errors of the estimate."
    if card["config"]["dtype"] != "float32":
        yield f"Trained and scored in {card['config']['dtype']}; this file computes in float32."


def _licence(card: Mapping[str, Any]) -> str:
    source = card["config"]["init_from"]
    source_licence = (
        f" The weights from which training started (`{source}`) have their own licence."
        if source
        else ""
    )
    if _is_synthetic(card):
        return f"Faces and code are part of affect_jax: Apache-2.0.{source_licence}"
    return (
        "The code that created this file is Apache-2.0. The permitted uses of the network depend "
        f"on the licence of its training data ({card['data']}); this card grants no rights."
        f"{source_licence}"
    )


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(escaped, headers, tablefmt="github", disable_numparse=True)
