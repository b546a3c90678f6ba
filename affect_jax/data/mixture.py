"""Several datasets as one: faces in one order, labels of each part for chosen heads."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.core.registry import describe_unknown_name, require_option
from affect_jax.data import DATASETS
from affect_jax.data.record_reader import COLUMNS, Split, join_records, open_split, split_names

HEAD_COLUMNS = {
    "expression": ("expression", "expression_distribution", "votes"),
    "valence_arousal": ("valence", "arousal"),
    "action_units": ("action_units", "action_unit_sides", "landmarks"),
}
"""Head -> the columns with its labels; action units may be estimated from landmarks."""


@dataclasses.dataclass(frozen=True)
class MixtureBuilder:
    """The prepared datasets of a mixture, by the names of the parts."""

    builders: Mapping[str, Any]
    heads: Mapping[str, Sequence[str]]
    shares: Mapping[str, float]
    classes: tuple[str, ...]

    name = "mixture"

    @property
    def data_path(self) -> str:
        return ", ".join(str(builder.data_path) for builder in self.builders.values())

    def open_split(self, name: str) -> MixedSplit:
        """Opens a split of the parts that have it. **Raises:** `UserError` if none has it."""
        names = split_names(self)
        if name not in names:
            raise UserError(f"mixture: split {describe_unknown_name(name, names)}")
        parts = {
            part: open_split(builder, name)
            for part, builder in self.builders.items()
            if name in split_names(builder)
        }
        for part, split in parts.items():
            unknown = [c for c in split.classes if labels.find_class(c, self.classes) is None]
            if unknown and "expression" in self.heads[part]:
                text = "mixture: %s: faces of these classes have no expression: %s"
                logging.warning(text, part, ", ".join(unknown))
        settings = [[self.heads[part], split.fingerprint] for part, split in parts.items()]
        text = json.dumps([self.classes, settings])
        return MixedSplit(
            name=name,
            records=join_records(parts.values()),
            classes=self.classes,
            fingerprint=hashlib.sha256(text.encode()).hexdigest(),
            folder=epath.Path(),
            files={},
            parts=parts,
            heads=self.heads,
            shares=self.shares,
        )


@dataclasses.dataclass(frozen=True)
class MixedSplit(Split):
    """One split of a mixture: the parts one after another.

    **Arguments:**

    - `parts`: name of the part -> its split.
    - `heads`: name of the part -> the heads whose labels it keeps.
    - `shares`: name of the part -> its share of an epoch; 0: each face once.
    """

    parts: Mapping[str, Split]
    heads: Mapping[str, Sequence[str]]
    shares: Mapping[str, float]

    def part_names(self) -> np.ndarray:
        """Returns the name of the part of each face, str [N]."""
        return np.repeat(list(self.parts), [len(split) for split in self.parts.values()])

    def columns(self, *names: str) -> dict[str, np.ndarray]:
        """Reads the labels of all parts as `Split.columns`; ids begin with the part's name."""
        tables = [self._columns_of(part, names or COLUMNS) for part in self.parts]
        common = [name for name in tables[0] if all(name in table for table in tables)]
        columns = {name: np.concatenate([table[name] for table in tables]) for name in common}
        return self.edits.apply(columns) if self.edits else columns

    def verify(self, *names: str) -> None:
        """Verifies the files of all parts, see `Split.verify`."""
        for split in self.parts.values():
            split.verify()

    def _columns_of(self, part: str, names: Sequence[str]) -> dict[str, np.ndarray]:
        split = self.parts[part]
        columns = split.columns(*names)
        if "id" in columns:
            columns["id"] = np.char.add(f"{part}/", columns["id"])
        matched = [labels.find_class(name, self.classes) for name in split.classes]
        ids = [-1 if name is None else self.classes.index(name) for name in matched]
        if "expression" in columns:
            columns["expression"] = np.array([*ids, -1])[columns["expression"]]  # -1 stays -1
        onto = np.equal.outer(ids, np.arange(len(self.classes))).astype(np.float32)
        for name in {"expression_distribution", "votes"} & set(names):
            unknown = np.full((len(split), len(onto)), np.nan, np.float32)
            columns[name] = columns.get(name, unknown) @ onto
        for head, head_columns in HEAD_COLUMNS.items():
            for name in columns.keys() & set(head_columns):
                if head not in self.heads[part]:
                    columns[name][:] = -1 if name == "expression" else np.nan
        return columns


@DATASETS.register("mixture")
def mixture(
    *,
    parts: Mapping[str, Mapping[str, Any]],
    manual_dir: str = "",
    data_dir: str = "data",
    image_size: int = 256,
    classes: Sequence[str] = labels.EXPRESSIONS,
) -> MixtureBuilder:
    """Several datasets, trained on and scored together, and scored one by one.

    **Arguments:**

    - `parts`: name of the part -> the `name` of a dataset and its options, and: `manual_dir`, by
      default that of the config; `heads`, whose labels the part contributes, by default all;
      `share`, the part's share of the faces of an epoch, which has as many faces as the parts
      together. A part is then repeated or drawn from. By default each face occurs once; if one part
      has a share, all have, and the sum is 1.
    - `classes`: names of the expressions; a part's classes are matched by name. Faces of other
      classes have no expression.

    **Raises:** `UserError` if a part's options are wrong or its data cannot be used.
    """
    creators, heads, shares = {}, {}, {}
    for name, options in parts.items():
        option, spec = f"data.options.parts.{name}", dict(options)
        supplied = {"data_dir": data_dir, "image_size": image_size}
        supplied["manual_dir"] = spec.pop("manual_dir", manual_dir)
        shares[name], heads[name] = spec.pop("share", 0.0), spec.pop("heads", list(HEAD_COLUMNS))
        require_option(f"{option}.share", shares[name], lambda v: 0 <= v <= 1, "in [0, 1]")
        for head in heads[name]:
            if head not in HEAD_COLUMNS:
                raise UserError(f"{option}.heads: {describe_unknown_name(head, HEAD_COLUMNS)}")
        if spec.get("name") == "mixture":
            raise UserError(f"{option}: a part cannot be a mixture")
        if problems := DATASETS.find_problems(spec, supplied):
            raise UserError(f"{option}.{problems[0]}")
        creators[name] = functools.partial(DATASETS.create, spec, **supplied)
    total = sum(shares.values())
    if len(parts) < 2 or (total and not (abs(total - 1) < 1e-6 and all(shares.values()))):
        raise UserError(
            f"data.options.parts: shares {shares}: there must be two parts or more, and their "
            "shares must be all 0 or have the sum 1"
        )
    builders = {name: create() for name, create in creators.items()}
    return MixtureBuilder(builders, heads, shares, tuple(classes))
