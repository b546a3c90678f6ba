"""Runs an exported network without JAX: python onnx_face.py model.onnx face.jpg ..."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, *paths = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
size = session.get_inputs()[0].shape[1]
heads = json.loads(session.get_modelmeta().custom_metadata_map["outputs"])
faces = [ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in paths]
images = np.stack([np.asarray(face.resize((size, size))) for face in faces])
outputs = session.run(list(heads), {"image": images})
for row, path in enumerate(paths):
    for head, output in zip(heads, outputs, strict=True):
        pairs = zip(heads[head]["names"], output[row], strict=True)
        print(path, head, *(f"{name} {value:.3f}" for name, value in pairs))
