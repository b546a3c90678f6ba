"""Data sets and the way from their records to batches.

A data set is a function in the registry `DATASETS`. Its keyword arguments are its options, among
them always `manual_dir`, `data_dir` and `image_size`; it returns a prepared `tfds` builder whose
records have the features of `affect_jax.data.builder`. `registry.load_all("affect_jax.data")`
imports the modules of this package, so that a dropped-in file is registered.
"""

from __future__ import annotations

from affect_jax.core.registry import Registry

DATASETS = Registry("dataset")
