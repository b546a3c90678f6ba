"""Rendered faces with exact labels: the dataset that needs no licence and no download.

`affect_jax.facs` renders faces from facial action units. `affect_jax.facs.render.random_face`
describes what varies between faces, and how the labels follow from the action units.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import simplejpeg

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.core.registry import describe_unknown_name, require_option
from affect_jax.data import DATASETS
from affect_jax.data.tfds_builder import FacesBuilder, FacesConfig, make_record, prepare_records
from affect_jax.data.worker_processes import map_ordered
from affect_jax.facs.render import random_face

JPEG_QUALITY = 90


class SyntheticFaces(FacesBuilder, skip_registration=True):
    """Rendered faces with exact expression, valence, arousal, action units and landmarks.

    For a given `skew` and image size, a face depends only on the seed, the split and its number,
    not on the number of faces or processes.
    """

    name = "synthetic_faces"

    def __init__(self, *, totals: Mapping[str, int], skew: str, seed: int, **options: Any):
        """`totals`: split -> number of faces; `options` are those of `FacesBuilder`."""
        self._totals, self._skew, self._seed = totals, skew, seed
        super().__init__(**options)

    def source_hashes(self) -> dict[str, str]:
        return {"rendering": random_face.VERSION}

    def _split_generators(self, dl_manager: Any) -> Any:
        return {split: self._examples(split, total) for split, total in self._totals.items()}

    def _examples(self, split: str, total: int) -> Iterator[tuple[str, dict[str, Any]]]:
        config: Any = self.builder_config
        render = functools.partial(
            render_record,
            seed=self._seed,
            split=split,
            skew=self._skew if split == "training" else "balanced",  # as in AffectNet
            size=config.image_size,
        )
        name = f"{self.name}: {split}"
        for record in map_ordered(render, range(total), total, name, self.num_workers):
            yield record["id"], record


def render_record(index: int, *, seed: int, split: str, **options: Any) -> dict[str, Any]:
    """Renders a face and returns its record; runs in a worker process.

    **Arguments:** see `random_face.sample_face`.
    """
    face = random_face.sample_face(seed, index, split=split, **options)
    image = simplejpeg.encode_jpeg(face.image, quality=JPEG_QUALITY, colorsubsampling="420")
    return make_record(
        f"{split}/{index:07d}",
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

    - `data_dir`: folder for the records, which are written to a subfolder named after the options.
    - `image_size`: side of the stored faces, pixels.
    - `num_training`, `num_validation`: faces in each split.
    - `skew`: class distribution of the training split: `affectnet` (its training counts) or
      `balanced`. The validation split is always balanced.
    - `seed`: seed of the random faces.
    - `num_workers`: processes that render; None: one per core.

    **Raises:** `UserError` if an option is out of range.
    """
    if skew not in random_face.SKEWS:
        raise UserError(f"synthetic_faces: skew {describe_unknown_name(skew, random_face.SKEWS)}")
    totals = {"training": num_training, "validation": num_validation}
    for split, total in totals.items():
        require_option(f"data.options.num_{split}", total, lambda v: v >= 1, "1 or more")
    require_option("data.image_size", image_size, lambda v: v >= 16, "16 or more")
    require_option("data.options.seed", seed, lambda v: v >= 0, "0 or more")
    config = FacesConfig(
        name=f"{skew}_{num_training}_{num_validation}_{image_size}_seed_{seed}",
        description=f"{labels.NUM_CLASSES} expressions, drawn",
        image_size=image_size,
    )
    options = {"totals": totals, "skew": skew, "seed": seed, "num_workers": num_workers}
    return prepare_records(SyntheticFaces(config=config, data_dir=data_dir, **options))
