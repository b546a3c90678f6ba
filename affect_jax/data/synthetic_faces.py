"""Rendered faces with exact labels: the dataset that needs no licence and no download.

`affect_jax.facs` renders faces from facial action units. `affect_jax.facs.render.random_face`
describes what varies between faces, and how the labels follow from the action units.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import Any

import simplejpeg

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.core.registry import describe_unknown_name
from affect_jax.data import DATASETS
from affect_jax.data.tfds_builder import FacesBuilder, FacesConfig, make_record, prepare_records
from affect_jax.data.worker_processes import map_ordered, num_cores, show_progress
from affect_jax.facs.render import random_face

JPEG_QUALITY = 90
MIN_FACES_FOR_WORKERS = 1_000
"""With fewer faces, starting worker processes takes longer than rendering."""

MAX_FACES = 10_000_000  # the id of a record has seven digits


@dataclasses.dataclass(eq=False)
class SyntheticConfig(FacesConfig):
    """A set of rendered faces.

    **Arguments:**

    - `num_training`, `num_validation`: faces in each split.
    - `skew`: class distribution of the training split: `affectnet` (its training counts) or
      `balanced`. The validation split is balanced, as in AffectNet.
    - `seed`: seed of the random faces.
    """

    num_training: int = 8_000
    num_validation: int = 1_000
    skew: str = "affectnet"
    seed: int = 0


class SyntheticFaces(FacesBuilder, skip_registration=True):
    """Rendered faces with exact expression, valence, arousal, action units and landmarks.

    For a given `skew` and image size, a face depends only on the seed, the split and its number,
    not on the number of faces or processes.
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

    def source_hashes(self) -> dict[str, str]:
        return {"rendering": random_face.VERSION}

    def _split_generators(self, dl_manager: Any) -> Any:
        config: Any = self.builder_config
        totals = {"training": config.num_training, "validation": config.num_validation}
        return {split: self._examples(split, total) for split, total in totals.items()}

    def _examples(self, split: str, total: int) -> Iterator[tuple[str, dict[str, Any]]]:
        config: Any = self.builder_config
        render = functools.partial(
            render_records,
            seed=config.seed,
            split=split,
            skew=config.skew if split == "training" else "balanced",
            size=config.image_size,
        )
        records = map_ordered(
            render,  # pyright: ignore
            range(total),  # pyright: ignore
            num_workers=self._num_workers or (1 if total < MIN_FACES_FOR_WORKERS else num_cores()),
        )
        counts = self.counts[split] = {"read": 0, "skipped": 0}
        examples: Any = show_progress(records, total, f"{self.name}: {split}")
        for record in examples:
            counts["read"] += 1
            yield record["id"], record


def render_records(
    indices: list[int], *, seed: int, split: str, skew: str, size: int
) -> list[dict[str, Any]]:
    """Renders faces and returns their records; runs in a worker process."""
    return [
        create_record(
            random_face.sample_face(seed, index, split=split, skew=skew, size=size),
            f"{split}/{index:07d}",
        )
        for index in indices
    ]


def create_record(face: random_face.RenderedFace, identifier: str) -> dict[str, Any]:
    """Creates the record of a rendered face, with all its labels."""
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
    """Rendered faces, prepared once; 9,000 faces take ten to twenty seconds on two cores.

    **Arguments:**

    - `manual_dir`: not used; this dataset reads no files.
    - `data_dir`: folder for the records, which are written to a subfolder named after the options.
    - `image_size`: side of the stored faces, pixels.
    - `num_training`, `num_validation`: faces in each split, 1 to 10,000,000.
    - `skew`: class distribution of the training split: `affectnet` (its training counts) or
      `balanced`.
    - `seed`: seed of the random faces.
    - `num_workers`: processes that render; None: one per core.

    **Raises:** `UserError` if an option is out of range.
    """
    del manual_dir
    config = create_config(
        image_size=image_size,
        num_training=num_training,
        num_validation=num_validation,
        skew=skew,
        seed=seed,
    )
    return prepare_records(
        SyntheticFaces(config=config, data_dir=data_dir, num_workers=num_workers)
    )


def create_config(
    *, image_size: int, num_training: int, num_validation: int, skew: str, seed: int
) -> SyntheticConfig:
    """Checks the options and creates a config with a unique name; see `synthetic_faces`."""
    if skew not in random_face.SKEWS:
        raise UserError(f"synthetic_faces: skew {describe_unknown_name(skew, random_face.SKEWS)}")
    for name, value in (("num_training", num_training), ("num_validation", num_validation)):
        if not 1 <= value <= MAX_FACES:
            raise UserError(f"synthetic_faces: {name} = {value}; it must be 1 to {MAX_FACES:,}")
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
