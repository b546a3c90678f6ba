"""Usage section of a model card: example code that runs the exported network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ONNX = """\
Without JAX, with any ONNX runtime:

```python
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("model.onnx")
face = Image.open("face.jpg").convert("RGB").resize(({size}, {size}))
names = [output.name for output in session.get_outputs()]
outputs = dict(zip(names, session.run(None, {{"image": np.asarray(face)[None]}})))
```"""
STABLEHLO = """\
With JAX, without affect_jax. JAX can read files of an earlier version for six months:

```python
import pathlib

import numpy as np
from jax import export
from PIL import Image{imports}

network = export.deserialize(bytearray(pathlib.Path("model.stablehlo").read_bytes()))
face = Image.open("face.jpg").convert("RGB").resize(({size}, {size}))
outputs = network.call({parameters}np.asarray(face)[None])
```"""
SAFETENSORS = """\
The parameters alone, for affect_jax. Start a run from them with `--config.init_from`, or in Python:

```python
import json
import pathlib

from affect_jax.config import from_dict
from affect_jax.train import initial_weights
from affect_jax.train.experiment import load_registries

load_registries()
config = from_dict(json.loads(pathlib.Path("card.json").read_text())["config"])
config.init_from = "model.safetensors"
weights = initial_weights.read(config)  # .params and .batch_stats
```"""


def format_usage(card: Mapping[str, Any]) -> str:
    """Formats the section "Usage" of a card."""
    size = card["input"]["shape"][1]
    if card["format"] == "onnx":
        return ONNX.format(size=size)
    if card["format"] == "safetensors":
        return SAFETENSORS
    separate_params = len(card["files"]) > 1
    return STABLEHLO.format(
        size=size,
        imports="\nfrom safetensors.numpy import load_file" if separate_params else "",
        parameters='load_file("model.safetensors"), ' if separate_params else "",
    )
