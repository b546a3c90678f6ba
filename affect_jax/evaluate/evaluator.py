"""Predictions of a network for each face of a split, for any batch size and device count."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from affect_jax.config import Config
from affect_jax.core import parallel
from affect_jax.core.batch import restrict_distribution, split_for_devices
from affect_jax.core.errors import UserError
from affect_jax.data import decoding, loader, sampling
from affect_jax.data.dataset import load_targets, select_class_names
from affect_jax.data.tfds_builder import Split
from affect_jax.facs.action_units import UNITS
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions, check_class_names
from affect_jax.models.network import Network, predict_step

SOFT_COLUMNS = ("expression_distribution", "votes")
IN_FLIGHT = 2
"""Batches that are dispatched before the evaluator waits for an earlier one."""


class Evaluator:
    """Computes predictions of a network for every face of a split. The step compiles once.

    **Arguments:** `config`: a checked config, of which `evaluation` and `data` are read.
    """

    def __init__(self, config: Config, network: Network, split: Split):
        self.split = split
        self.classes = select_class_names(split, config.data.num_classes)
        check_class_names(self.classes, f"the classes of {config.data.name}")
        self.targets, self.label_source = load_targets(config, split)
        self.columns = split.columns("id", *SOFT_COLUMNS)
        self._image_size = config.data.image_size
        self._heads = network.heads
        self._compute_outputs = create_output_function(config, network)

    def __call__(self, variables: dict[str, Any]) -> Predictions:
        """Predicts the whole split with `variables`, `{"params": ..., "batch_stats": ...}`."""
        outputs = self._compute_outputs(variables, self.split.records)
        return create_predictions(self.columns, self.classes, self.targets, outputs)

    def load_faces(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the stored images of some rows of the split: uint8 [n, S, S, 3]."""
        return decoding.decode_faces(self.split.records, rows, self._image_size)

    def require_score(self, name: str) -> None:
        """Checks before training that the split has the score `name`, `checkpoint.best` or empty.

        **Raises:** `UserError` if no score has that name or the split has no labels for it.
        """
        if not name:
            return
        if error := protocol.validate_score_name(name, [*self._heads, *SOFT_COLUMNS], self.classes):
            raise UserError(f"checkpoint.best = {error}")
        soft = [key for key in SOFT_COLUMNS if np.isfinite(self.columns.get(key, np.nan)).any()]
        labelled = [head for head in self._heads if self.targets[f"{head}_mask"].any()]
        if protocol.validate_score_name(name, labelled + soft, self.classes):
            raise UserError(
                f"checkpoint.best = {name!r}: no face of the split {self.split.name!r} has a label "
                "for this score; choose another score, or '' for none"
            )


def create_output_function(
    config: Config, network: Network
) -> Callable[[Any, Any], dict[str, np.ndarray]]:
    """Creates a function that computes `{head: float32 [N, ...]}`, see `predict_step`.

    Its arguments are `{"params": ..., "batch_stats": ...}`, and a split's records or faces, uint8
    [N, S, S, 3]. It compiles once.
    """
    predict = parallel.parallelize_per_device(
        functools.partial(predict_step, network, mirror=config.evaluation.mirror)
    )

    def compute_outputs(variables: Any, images: Any) -> dict[str, np.ndarray]:
        num_faces = len(images)
        devices = jax.local_device_count()  # each process scores all faces
        batch_size = min(config.evaluation.batch_size, num_faces)
        batch_size = -(-batch_size // devices) * devices
        batches = loader.load_batches(
            images,
            {},
            sampling.SequentialRows(num_faces, batch_size),
            image_size=config.data.image_size,
            num_workers=0,
        )
        variables = parallel.replicate(variables)
        outputs = []
        with contextlib.closing(batches):
            for batch in batches:
                inputs = {"image": batch["image"], "valid": batch["valid"]}
                sharded = parallel.shard(split_for_devices(inputs, devices))
                outputs.append(predict(variables, sharded))
                jax.block_until_ready(outputs[-IN_FLIGHT:][0])
        parts = jax.device_get(outputs)  # {head: [devices, b / devices, ...]} of each batch
        joined = {head: np.concatenate([part[head] for part in parts]) for head in parts[0]}
        return {  # the padding is at the end
            head: array.reshape(-1, *array.shape[2:])[:num_faces] for head, array in joined.items()
        }

    return compute_outputs


def create_predictions(
    columns: Mapping[str, np.ndarray],
    classes: Sequence[str],
    targets: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
) -> Predictions:
    """Joins outputs and labels of N faces.

    **Arguments:** `columns`: `id`, and those of `SOFT_COLUMNS` that the dataset has; `targets`:
    targets and masks, see `batch.make_targets`; `outputs`: see `predict_step`.
    """
    labels = np.where(targets["expression_mask"], targets["expression"], -1).astype(np.int64)
    fields: dict[str, Any] = {"id": columns["id"], "classes": classes, "expression": labels}
    soft = {
        name: np.where(labels[:, None] >= 0, weights, np.nan).astype(np.float64)
        for name, weights in columns.items()
        if name != "id" and np.isfinite(weights).any()
    }
    if "expression" in outputs:
        probabilities = outputs["expression"].astype(np.float64)
        probabilities /= probabilities.sum(axis=1, keepdims=True)  # float32 sums are inexact
        fields["probabilities"] = probabilities
        count = len(classes)
        if (weights := soft.get("expression_distribution")) is not None:
            fields["distribution"] = restrict_distribution(weights, count)
        if (votes := soft.get("votes")) is not None:
            fields["votes"] = votes[:, :count]
    for head in ("valence_arousal", "action_units"):
        if head in outputs:
            mask = targets[f"{head}_mask"].reshape(len(labels), -1)  # of faces or of units
            fields[head] = np.where(mask, targets[head], np.nan).astype(np.float64)
            fields[f"{head}_predicted"] = outputs[head].astype(np.float64)
    return Predictions(units=tuple(UNITS) if "action_units" in outputs else (), **fields)
