"""Evaluation of a checkpoint on a whole split."""

from __future__ import annotations

import dataclasses
import pathlib

from affect_jax.config import Config, config_digest
from affect_jax.core import parallel
from affect_jax.core.errors import UserError
from affect_jax.core.paths import writing_to
from affect_jax.data import record_reader
from affect_jax.data.dataset import open_splits
from affect_jax.data.mixture import MixedSplit
from affect_jax.evaluate import selection_bias
from affect_jax.evaluate.evaluator import Evaluator
from affect_jax.evaluate.scoring import read_group_labels, score_table
from affect_jax.metrics import resampling
from affect_jax.metrics.predictions import Predictions, write_predictions
from affect_jax.run.trained_network import TrainedNetwork, load_network
from affect_jax.run.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Results of an evaluation, as its report needs them.

    **Arguments:** `folder`: contains `predictions.parquet` and `scores.json`.
    """

    folder: pathlib.Path
    predictions: Predictions
    evaluator: Evaluator
    trained: TrainedNetwork


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

    - `config`: a checked config.
    - `checkpoint`: `best`, `last` or a step number.
    - `split`: name of the split; None: the config's `evaluation.split`.
    - `groups`: CSV of group labels, see `scoring`; None: groups are not scored.

    **Raises:** `UserError` if the checkpoint or the split does not exist.
    """
    group_labels = read_group_labels(groups)
    trained = load_network(workdir.path, checkpoint, config)
    (data,) = open_splits(config, split or config.evaluation.split)
    evaluator = Evaluator(config, trained.network, data)
    if isinstance(data, MixedSplit):
        parts = data.part_names().tolist()
        if "part" in group_labels:
            raise UserError(
                f"--groups={groups}: the column 'part' is that of the mixture; rename it"
            )
        group_labels["part"] = dict(zip(data.columns("id")["id"].tolist(), parts, strict=True))
    verification = record_reader.verify_in_background([data])
    table = evaluator(trained.variables)
    verification.result()
    out = workdir.path / "evaluation" / data.name
    about = {
        "data": config.data.name,
        "split": data.name,
        "fingerprint": data.fingerprint,
        "config": config_digest(config),
        "checkpoint_step": trained.step,
        "machine": parallel.describe_machine(),
        "machine_of_training": trained.machine,
        "predictions": str(out / "predictions.parquet"),
    }
    path, best = workdir.path / selection_bias.FILE, config.checkpoint.best
    if data.name == config.evaluation.split and (bias := selection_bias.estimate(path, best)):
        about["selection_bias"] = bias
    if data.edits:
        about["label_edits"] = dict(data.edits.summary)
    if trained.label_edits:
        about["label_edits_of_training"] = trained.label_edits
    if evaluator.label_source:
        about["action_units"] = evaluator.label_source  # annotations, or estimates from landmarks
    with writing_to(out):
        write_predictions(table, out / "predictions.parquet")
    print(f"step {trained.step:,}, {data.name} split, {len(table):,} faces\n")
    draws, replicates = config.evaluation.draws, resampling.REPLICATES
    score_table(table, out, about, draws, replicates, group_labels)
    return Evaluation(out, table, evaluator, trained)
