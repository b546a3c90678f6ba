"""The dataset of a config, prepared."""

from __future__ import annotations

from affect_jax.config import Config, to_dict
from affect_jax.data import DATASETS
from affect_jax.data.tfds_builder import FacesBuilder


def prepare_dataset(config: Config) -> FacesBuilder:
    """Returns the builder of the configured dataset; the first call writes its records.

    **Raises:** `UserError` if the data are missing or cannot be used.
    """
    return DATASETS.create(
        {"name": config.data.name, **to_dict(config.data.options)},
        manual_dir=config.data.manual_dir,
        data_dir=config.data.data_dir,
        image_size=config.data.image_size,
    )
