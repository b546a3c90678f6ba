"""Changes of labels by a config: lists of ids to ignore and to relabel, and label noise.

The prepared records do not change. `config.data.ignore` is a CSV file with the column `id`,
`config.data.relabel` one with `id` and `label`, the name of a class; ids are those of
`predictions.parquet`. Both apply to every split. Label noise applies to the training split only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from affect_jax.config import Config, to_dict
from affect_jax.core.errors import UserError
from affect_jax.core.labels import find_class
from affect_jax.core.registry import Registry, require_option
from affect_jax.data.record_reader import LabelEdits, Split
from affect_jax.data.source_files import read_csv

LABEL_NOISE = Registry("label_noise")
"""Kind -> function that creates a `LabelNoise`."""


@dataclasses.dataclass(frozen=True)
class LabelNoise:
    """Draws a label from the transition probabilities of the true one.

    The draw is a function of the seed and the id of a face, whatever the order of the faces.

    **Arguments:** `transitions`: [C, C], probability that label i becomes label j.
    """

    seed: int
    transitions: np.ndarray

    def __call__(self, ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns noisy labels, int [N]. Labels that are none of the C classes stay."""
        rows = np.flatnonzero((labels >= 0) & (labels < len(self.transitions)))
        hashes = (hashlib.sha256(f"{self.seed}:{id}".encode()).digest() for id in ids[rows])
        draws = np.array([int.from_bytes(digest[:6], "big") for digest in hashes]) / 2**48
        ends = np.cumsum(self.transitions, axis=1)[:, :-1]
        noisy = labels.copy()
        noisy[rows] = np.sum(draws[:, None] >= ends[labels[rows]], axis=1)
        return noisy


@LABEL_NOISE.register("symmetric")
def symmetric(*, rate: float, seed: int = 0, num_classes: int) -> LabelNoise:
    """Replaces a label by another class, all equally probable.

    **Arguments:**

    - `rate`: probability of a change, in [0, 1].
    - `seed`: an integer.
    """
    require_option("label_noise.rate", rate, lambda v: 0 <= v <= 1, "in [0, 1]")
    transitions = np.full((num_classes, num_classes), rate / (num_classes - 1))
    np.fill_diagonal(transitions, 1 - rate)
    return LabelNoise(seed, transitions)


@LABEL_NOISE.register("confusion")
def confusion(*, matrix: Sequence[Sequence[float]], seed: int = 0, num_classes: int) -> LabelNoise:
    """Replaces labels by given probabilities.

    **Arguments:**

    - `matrix`: [C, C], row i the probabilities of the new label of class i.
    - `seed`: an integer.
    """
    is_square = [len(row) for row in matrix] == [num_classes] * num_classes
    if not is_square or np.min(matrix) < 0 or not np.allclose(np.sum(matrix, axis=1), 1):
        raise UserError(
            f"label_noise.matrix: must be {num_classes} rows of {num_classes} probabilities with"
            " sum 1"
        )
    return LabelNoise(seed, np.array(matrix))


def create_noise(config: Config) -> LabelNoise | None:
    """Creates the label noise of a config, if it has any."""
    spec = to_dict(config.data.label_noise)
    spec["name"] = spec.pop("kind", "")
    return LABEL_NOISE.create(spec, num_classes=config.data.num_classes) if spec["name"] else None


def read_lists(config: Config) -> tuple[dict[str, str], dict[str, str]]:
    """Reads the lists of a config: {id: ""} to ignore and {id: label} to relabel.

    **Raises:** `UserError` if a file cannot be read, lacks a column, or has two labels of an id.
    """
    lists: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for found, path, columns in zip(
        lists, (config.data.ignore, config.data.relabel), (("id",), ("id", "label")), strict=True
    ):
        for line, row in read_csv(pathlib.Path(path), columns) if path else ():
            label = row["label"] if "label" in columns else ""
            if found.setdefault(row["id"], label) != label:
                raise UserError(f"{path}: line {line}: another label of {row['id']!r}")
    return lists


def check_lists(config: Config, lists: Sequence[Mapping[str, str]], known: Collection[str]) -> None:
    """Warns of listed ids that the dataset lacks. **Raises:** `UserError` if it lacks all."""
    for key, ids in zip(("ignore", "relabel"), lists, strict=True):
        if unknown := len(ids.keys() - known):
            path = config.data[key]
            problem = f"data.{key}: {unknown:,} of {len(ids):,} ids of {path} are not in the data"
            if unknown == len(ids):
                raise UserError(f"{problem}; ids are those of predictions.parquet")
            logging.warning("%s", problem)


def edit_labels(
    config: Config, split: Split, lists: Sequence[Mapping[str, str]], noise: LabelNoise | None
) -> Split:
    """Returns a split with edited labels and its own fingerprint; the same split without edits.

    **Raises:** `UserError` for a label in the list that is no class of the dataset.
    """
    noise = noise if split.name == "training" else None
    if not (config.data.ignore or config.data.relabel or noise):
        return split
    columns = split.columns("id", "expression")
    ids, before = columns["id"], columns["expression"]
    ignore, relabel = lists
    classes = {label: find_class(label, split.classes) for label in relabel.values()}
    if unknown := {label for label, name in classes.items() if name is None}:
        raise UserError(
            f"{config.data.relabel}: {min(unknown)!r} is none of {', '.join(split.classes)}"
        )
    ignored = np.isin(ids, list(ignore))
    relabelled = np.isin(ids, list(relabel)) & ~ignored
    labels = np.where(ignored, -1, before)
    for row in np.flatnonzero(relabelled):
        labels[row] = split.classes.index(classes[relabel[ids[row]]])
    summary: dict[str, Any] = {"ignored": int(ignored.sum()), "relabelled": int(relabelled.sum())}
    if noise:
        labels, clean = noise(ids, labels), labels
        rows = np.flatnonzero(labels != clean)
        changes = sorted(f"{ids[row]},{split.classes[labels[row]]}\n" for row in rows)
        text = "".join(changes)
        digest = hashlib.sha256(text.encode()).hexdigest()
        summary |= {"label_noise": len(changes), "label_noise_sha256": digest}
    changed = ignored | relabelled | (labels != before)
    edits = LabelEdits(ignored, changed, labels, summary)
    content = split.fingerprint.encode() + ignored.tobytes() + labels.tobytes()
    fingerprint = hashlib.sha256(content).hexdigest()
    return dataclasses.replace(split, fingerprint=fingerprint, edits=edits)
