"""Models out: a trained network as StableHLO, ONNX or safetensors, with a model card beside it.

    python -m affect_jax.export --checkpoint=runs/weighted --format=onnx

The exported function takes faces as bytes and gives what evaluation gives: crop, normalisation and
the last softmax, sigmoid or clip are inside. See `affect_jax.export.formats`.
"""
