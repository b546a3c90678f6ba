"""Evaluation of a checkpoint on a whole split, also of another dataset than that of the run."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from affect_jax.config import Config, config_digest, defaults, from_dict, to_dict
from affect_jax.core import parallel
from affect_jax.core.errors import UserError
from affect_jax.core.labels import EXPRESSIONS, NUM_CLASSES, canonical_name
from affect_jax.core.paths import writing_to
from affect_jax.data import record_reader
from affect_jax.data.dataset import open_splits
from affect_jax.data.mixture import MixedSplit
from affect_jax.data.record_reader import Split
from affect_jax.evaluate import selection_bias
from affect_jax.evaluate.evaluator import Evaluator
from affect_jax.evaluate.scoring import read_group_labels, score_table
from affect_jax.metrics import resampling
from affect_jax.metrics.predictions import Predictions, restrict_classes, write_predictions
from affect_jax.run.trained_network import TrainedNetwork, load_network
from affect_jax.run.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Results of an evaluation, as its report needs them.

    **Arguments:** `folder`: contains `predictions.parquet` and `scores.json`; `columns`: the
    network's output for each class of the predictions.
    """

    folder: pathlib.Path
    predictions: Predictions
    evaluator: Evaluator
    trained: TrainedNetwork
    columns: Sequence[int]


def evaluate_checkpoint(
    config: Config,
    workdir: Workdir,
    *,
    checkpoint: str,
    split: str | None,
    groups: pathlib.Path | None = None,
) -> Evaluation:
    """Scores a checkpoint of a run and writes predictions and scores into the workdir.

    **Arguments:**

    - `config`: a checked config. If its dataset is not that of the run, classes are matched by
      name, see `match_classes`, and the results have a folder of their own.
    - `checkpoint`: `best`, `last` or a step number.
    - `split`: name of the split; None: the config's `evaluation.split`.
    - `groups`: CSV of group labels, see `scoring`; None: groups are not scored.

    **Raises:** `UserError` if the checkpoint or the split does not exist.
    """
    group_labels = read_group_labels(groups)
    saved = from_dict(workdir.load_config()) if workdir.config_path.is_file() else config
    config, data, is_other = _open_split(config, saved, workdir, split)
    trained = load_network(workdir.path, checkpoint, None if is_other else config)
    evaluator = Evaluator(config, trained.network, data)
    if isinstance(data, MixedSplit):
        if "part" in group_labels:
            raise UserError(f"--groups={groups}: 'part' is a column of the mixture; rename it")
        ids, parts = data.columns("id")["id"].tolist(), data.part_names().tolist()
        group_labels["part"] = dict(zip(ids, parts, strict=True))
    verification = record_reader.verify_in_background([data])
    table = evaluator(trained.variables)
    verification.result()
    out = workdir.path / "evaluation" / data.name
    columns, origin, bias = range(len(table.classes)), {}, {}
    if is_other:
        out = out.with_name(f"{config.data.name}-{data.name}")
        is_taken = _read_fingerprint(out) not in ("", data.fingerprint)
        if is_taken or config.data.name == saved.data.name:
            out = out.with_name(f"{out.name}-{data.fingerprint[:6]}")
        table, columns, left_out = match_classes(table, trained.classes)
        origin = {"trained_on": saved.data.name, **left_out}
    elif data.name == saved.evaluation.split:
        path = workdir.path / selection_bias.FILE
        bias = selection_bias.estimate(path, saved.checkpoint.best)
    about = {
        "data": config.data.name,
        "split": data.name,
        "fingerprint": data.fingerprint,
        "config": config_digest(config),
        "checkpoint_step": trained.step,
        "machine": parallel.describe_machine(),
        "machine_of_training": trained.machine,
        "predictions": str(out / "predictions.parquet"),
        **origin,
        "selection_bias": bias,
        "label_edits": dict(data.edits.summary) if data.edits else {},
        "label_edits_of_training": trained.label_edits,
        "action_units": evaluator.label_source,  # annotations, or estimates from landmarks
    }
    about = {key: value for key, value in about.items() if value != {} and value != ""}
    with writing_to(out):
        write_predictions(table, out / "predictions.parquet")
    print(f"step {trained.step:,}, {data.name} split, {len(table):,} faces")
    print("".join(f"{key.replace('_', ' ')}: {value}\n" for key, value in origin.items()))
    draws, replicates = config.evaluation.draws, resampling.REPLICATES
    score_table(table, out, about, draws, replicates, group_labels)
    return Evaluation(out, table, evaluator, trained, columns)


def match_classes(
    table: Predictions, model_classes: Sequence[str]
) -> tuple[Predictions, Sequence[int], dict[str, str]]:
    """Restricts predictions to the classes that the network and the labels have, matched by name.

    **Arguments:** `table`: has labels of the data's classes, probabilities of `model_classes`.

    **Returns:** the predictions, the network's output for each of their classes, and the names of
    the classes that are left out, for `about` of `scores.json`.

    **Raises:** `UserError` if fewer than two classes are left.
    """
    if table.probabilities is None or table.expression is None:
        return table, range(len(table.classes)), {}
    labelled = np.unique(table.expression[table.expression >= 0]).tolist()
    if not labelled:
        none = dict.fromkeys(("expression", "probabilities", "distribution", "votes"))
        return dataclasses.replace(table, classes=(), **none), (), {}
    of_data = {canonical_name(table.classes[i]): i for i in labelled}
    of_model = {canonical_name(name): i for i, name in enumerate(model_classes)}
    common = sorted(of_model.keys() & of_data.keys(), key=[*EXPRESSIONS, *of_model].index)
    if len(common) < 2:
        raise UserError(
            f"fewer than two classes are the same: the network has {', '.join(of_model)}, the "
            f"labels are {', '.join(of_data)}"
        )
    columns = [of_model[name] for name in common]
    left_out = {
        "classes_that_the_data_lack": [name for name in of_model if name not in of_data],
        "classes_that_the_network_lacks": [name for name in of_data if name not in of_model],
    }
    table = restrict_classes(table, [of_data[name] for name in common], columns)
    table = dataclasses.replace(table, classes=tuple(common))
    return table, columns, {key: ", ".join(names) for key, names in left_out.items() if names}


def _open_split(
    config: Config, saved: Config, workdir: Workdir, split: str | None
) -> tuple[Config, Split, bool]:
    """Opens the split to score.

    **Returns:** also the config for its evaluation, and whether the data are not those of the run.
    """
    config, name = from_dict(to_dict(config)), split or config.evaluation.split
    is_other = any(config.data[key] != saved.data[key] for key in ("name", "options"))
    if not is_other and config.data.manual_dir != saved.data.manual_dir:
        is_other = not _was_moved(config, saved, workdir, name)
    if is_other:
        config.data.image_size = saved.data.image_size
        for key in ("ignore", "relabel", "label_noise"):  # those of the run's faces
            if config.data[key] == saved.data[key]:
                config.data[key] = defaults().data[key]
    (data,) = open_splits(config, name)
    if is_other:  # the labels are those of the data; `match_classes` selects the network's
        config.data.num_classes = len(data.classes) if data.classes != EXPRESSIONS else NUM_CLASSES
    return config, data, is_other


def _was_moved(config: Config, saved: Config, workdir: Workdir, split: str) -> bool:
    """Whether the configured faces are those of the run, in another folder."""
    try:
        (data,) = open_splits(config, split)
        own = _read_fingerprint(workdir.path / "evaluation" / split)
        return data.fingerprint == (own or open_splits(saved, split)[0].fingerprint)
    except UserError:  # the run's lists name other faces, or its own data are not there
        return False


def _read_fingerprint(folder: pathlib.Path) -> str:
    """The fingerprint of the data of an earlier evaluation; empty without one."""
    try:
        return json.loads((folder / "scores.json").read_text())["about"]["fingerprint"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
