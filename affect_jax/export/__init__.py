"""Export: writes a trained network as StableHLO, ONNX or safetensors, with a model card.

    python -m affect_jax.export --workdir=runs/weighted --format=onnx

The exported function takes uint8 face images and returns the outputs of evaluation: it includes the
crop, the normalisation and the final softmax, sigmoid or clip. See `affect_jax.export.formats`.
"""
