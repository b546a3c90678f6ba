"""Rendered faces with exact labels: the data set that needs no licence and no download.

Faces are drawn from facial action units by `affect_jax.facs`; what is in a face, and how its labels
follow from its action units, is told in `affect_jax.facs.render.sample`.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import simplejpeg

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.core.registry import unknown
from affect_jax.data import DATASETS
from affect_jax.data.builder import FacesBuilder, FacesConfig, make_record, prepare_records
from affect_jax.data.worker_processes import in_order, num_cores, with_progress
from affect_jax.facs.render import sample

JPEG_QUALITY = 90
FEW_FACES = 1_000
"""Below this many faces starting processes takes longer than drawing."""

LARGEST = 10_000_000  # a record's id has seven digits


@dataclasses.dataclass(eq=False)
class SyntheticConfig(FacesConfig):
    """A set of rendered faces.

    **Arguments:**

    - `num_training`, `num_validation`: faces in each split.
    - `skew`: of the training split: `affectnet` (its training counts) or `balanced`. The validation
      split is balanced, as AffectNet's is.
    - `seed`: another seed, other persons.
    """

    num_training: int = 8_000
    num_validation: int = 1_000
    skew: str = "affectnet"
    seed: int = 0


class SyntheticFaces(FacesBuilder, skip_registration=True):
    """Drawn faces with expression, valence, arousal, action units and landmarks, all exact.

    A face is a function of the seed, the split and its number: not of how many there are, nor of
    the number of processes that draw.
    """

    name = "synthetic_faces"

    def __init__(
        self,
        *,
        config: SyntheticConfig,
        data_dir: str | os.PathLike,
        num_workers: int | None = None,
    ):
        self._num_workers = num_workers
        super().__init__(config=config, data_dir=data_dir)

    def source(self) -> dict[str, str]:
        return {"rendering": sample.VERSION}

    def _split_generators(self, dl_manager: Any) -> Any:
        config: Any = self.builder_config
        totals = {"training": config.num_training, "validation": config.num_validation}
        return {split: self._examples(split, total) for split, total in totals.items()}

    def _examples(self, split: str, total: int) -> Iterator[tuple[str, dict[str, Any]]]:
        config: Any = self.builder_config
        skew = config.skew if split == "training" else "balanced"
        settings = Settings(config.seed, split, skew, config.image_size)
        drawn = in_order(
            functools.partial(draw_faces, settings=settings),  # pyright: ignore
            range(total),  # pyright: ignore
            num_workers=self._num_workers or (1 if total < FEW_FACES else num_cores()),
        )
        counts = self.counts[split] = {"read": 0, "skipped": 0}
        for example in with_progress(drawn, total, f"{self.name}: {split}", counts):
            counts["read"] += 1
            found: Any = example
            yield found["id"], found


class Settings(NamedTuple):
    """What all faces of a split share."""

    seed: int
    split: str
    skew: str
    image_size: int


def draw_faces(indices: list[int], *, settings: Settings) -> list[dict[str, Any]]:
    """The records of some faces; a worker's task."""
    records = []
    for index in indices:
        face = sample.sample(
            settings.seed,
            index,
            split=settings.split,
            skew=settings.skew,
            size=settings.image_size,
        )
        records.append(drawn_record(face, f"{settings.split}/{index:07d}"))
    return records


def drawn_record(face: sample.Face, identifier: str) -> dict[str, Any]:
    """One record of a drawn face, with all its labels."""
    image = simplejpeg.encode_jpeg(face.image, quality=JPEG_QUALITY, colorsubsampling="420")
    return make_record(
        identifier,
        image,
        face.expression,
        box=face.box.tolist(),
        valence=face.valence,
        arousal=face.arousal,
        landmarks=face.landmarks,
        action_units=face.action_units,
        action_unit_sides=face.sides,
    )


@DATASETS.register("synthetic_faces")
def synthetic_faces(
    *,
    manual_dir: str = "",
    data_dir: str = "data",
    image_size: int = 256,
    num_training: int = 8_000,
    num_validation: int = 1_000,
    skew: str = "affectnet",
    seed: int = 0,
    num_workers: int | None = None,
) -> SyntheticFaces:
    """Rendered faces, drawn once; some 9,000 take ten to twenty seconds on two cores.

    **Arguments:**

    - `manual_dir`: not needed, nothing is read.
    - `data_dir`: where the records are written, in a folder named after the options.
    - `image_size`: side of the stored faces, pixels.
    - `num_training`, `num_validation`: faces in each split, 1 to 10,000,000.
    - `skew`: of the training split: `affectnet` (its training counts) or `balanced`.
    - `seed`: another seed, other persons.
    - `num_workers`: processes that draw; None: one a core.

    **Raises:** `UserError` for an option out of its range.
    """
    del manual_dir
    config = config_of(
        image_size=image_size,
        num_training=num_training,
        num_validation=num_validation,
        skew=skew,
        seed=seed,
    )
    return prepare_records(
        SyntheticFaces(config=config, data_dir=data_dir, num_workers=num_workers)
    )


def config_of(
    *, image_size: int, num_training: int, num_validation: int, skew: str, seed: int
) -> SyntheticConfig:
    """The options, checked, and a name that tells sets apart; see `synthetic_faces`."""
    if skew not in sample.SKEWS:
        raise UserError(f"synthetic_faces: skew {unknown(skew, sample.SKEWS)}")
    for name, value in (("num_training", num_training), ("num_validation", num_validation)):
        if not 1 <= value <= LARGEST:
            raise UserError(f"synthetic_faces: {name} = {value}; it must be 1 to {LARGEST:,}")
    if not 16 <= image_size <= 1024:
        raise UserError(f"synthetic_faces: image_size = {image_size}; it must be 16 to 1024")
    if seed < 0:
        raise UserError(f"synthetic_faces: seed = {seed}; it must not be negative")
    return SyntheticConfig(
        name=f"{skew}_{num_training}_{num_validation}_{image_size}_seed_{seed}",
        description=f"{labels.NUM_CLASSES} expressions, drawn",
        image_size=image_size,
        num_training=num_training,
        num_validation=num_validation,
        skew=skew,
        seed=seed,
    )
