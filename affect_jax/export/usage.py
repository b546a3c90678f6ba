"""How each export is run: the few lines of a model card that somebody copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ONNX = """\
Without JAX, by any ONNX runtime:

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
By JAX, without affect_jax; JAX reads what an earlier version wrote for half a year:

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
The parameters alone, for affect_jax. A run starts from them by `--config.init_from`; or, in Python:

```python
import json
import pathlib

from affect_jax import config, program, warm_start

program.registries()
settings = config.from_plain(json.loads(pathlib.Path("card.json").read_text())["config"])
settings.init_from = "model.safetensors"
weights = warm_start.read(settings)  # .params and .batch_stats
```"""


def text(card: Mapping[str, Any]) -> str:
    """The section "How to run it" of a card."""
    size = card["input"]["shape"][1]
    if card["format"] == "onnx":
        return ONNX.format(size=size)
    if card["format"] == "safetensors":
        return SAFETENSORS
    beside = len(card["files"]) > 1
    return STABLEHLO.format(
        size=size,
        imports="\nfrom safetensors.numpy import load_file" if beside else "",
        parameters='load_file("model.safetensors"), ' if beside else "",
    )
