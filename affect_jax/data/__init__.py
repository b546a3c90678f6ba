"""Datasets, and the pipeline from their records to batches.

A dataset is a function in the registry `DATASETS`. Its keyword arguments are its options and
`manual_dir`, `data_dir` and `image_size`, as far as it needs them. It returns a prepared `tfds`
builder whose records have the features of `affect_jax.data.tfds_builder.face_features`.
`registry.import_submodules("affect_jax.data")` imports all modules of this package, so that each
dataset in a file of this folder is registered.
"""

from __future__ import annotations

from affect_jax.core.registry import Registry

DATASETS = Registry("dataset")
