"""Conversion of a JAX function to an ONNX model with jax2onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import numpy as np
import onnx
import onnx_ir
from jax import export as jax_export
from jax2onnx import to_onnx
from onnx import helper
from onnx_ir.passes.common import DeduplicateInitializersPass

from affect_jax.core.errors import UserError, first_line

OPSET = 18
IR_VERSION = 8
"""Both versions are from 2022, so that old runtimes can read the file (onnxruntime from 1.14)."""


def convert_to_onnx(
    function: Callable[[jax.Array], Mapping[str, jax.Array]],
    image_shape: tuple[int, ...],
    *,
    name: str,
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """Converts a function from images to named arrays.

    **Arguments:**

    - `function`: uint8 [b, *image_shape] -> `{name: float32 [b, ...]}` for any b.
    - `image_shape`: shape of one image.
    - `name`: name of the graph.
    - `metadata`: stored in the file's metadata.

    **Returns:** a model with the input `image` and one output for each name.

    **Raises:** `UserError` if jax2onnx cannot convert the function.
    """
    (batch,) = jax_export.symbolic_shape("batch")
    input_spec = jax.ShapeDtypeStruct((batch, *image_shape), np.uint8)
    names = list(jax.eval_shape(function, input_spec))

    def ordered_outputs(images: jax.Array) -> tuple[jax.Array, ...]:
        outputs = function(images)  # called once: each call would add the network to the graph
        return tuple(outputs[name] for name in names)

    try:
        model = to_onnx(
            ordered_outputs,
            [input_spec],
            model_name=name,
            opset=OPSET,
            input_names=["image"],
            output_names=names,
            return_mode="ir",
        )
        assert isinstance(model, onnx_ir.Model)
        # Averaging over the mirror image runs the network twice: store its weights once.
        DeduplicateInitializersPass(size_limit=2**31)(model)
        proto = onnx_ir.to_proto(model)
        # jax2onnx 0.17.1 writes some wrong intermediate shapes. If absent, readers infer them.
        del proto.graph.value_info[:]
        proto.ir_version = IR_VERSION
        helper.set_model_props(proto, dict(metadata))
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # an unsupported primitive may raise any exception
        raise UserError(
            f"--format=onnx: jax2onnx cannot convert this network ({first_line(error)}); "
            "--format=stablehlo supports all of JAX"
        ) from error
    return proto
