"""A function of JAX's as an ONNX model, by jax2onnx."""

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
"""Both are of 2022, so that old runtimes read the file too (onnxruntime from 1.14 on)."""


def convert(
    function: Callable[[jax.Array], Mapping[str, jax.Array]],
    image: tuple[int, ...],
    *,
    name: str,
    about: Mapping[str, str],
) -> onnx.ModelProto:
    """The ONNX model of a function from images to named arrays.

    **Arguments:**

    - `function`: uint8 [b, *image] -> `{name: float32 [b, ...]}`, whatever b is.
    - `image`: shape of one image.
    - `name`: of the graph.
    - `about`: put into the file's metadata.

    **Returns:** a model with the input `image` and the function's names as outputs.

    **Raises:** `UserError` for a function that jax2onnx cannot convert.
    """
    (batch,) = jax_export.symbolic_shape("batch")
    given = jax.ShapeDtypeStruct((batch, *image), np.uint8)
    names = list(jax.eval_shape(function, given))

    def in_order(images: jax.Array) -> tuple[jax.Array, ...]:
        found = function(images)  # once: what is called twice stands in the graph twice
        return tuple(found[name] for name in names)

    try:
        model = to_onnx(
            in_order,
            [given],
            model_name=name,
            opset=OPSET,
            input_names=["image"],
            output_names=names,
            return_mode="ir",
        )
        assert isinstance(model, onnx_ir.Model)
        # A mirrored pass has the same weights again.
        DeduplicateInitializersPass(size_limit=2**31)(model)
        proto = onnx_ir.to_proto(model)
        # Notes on shapes in between, some of which jax2onnx 0.17.1 gets wrong; readers infer them.
        del proto.graph.value_info[:]
        proto.ir_version = IR_VERSION
        helper.set_model_props(proto, dict(about))
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # of a primitive that it does not know anything may be raised
        raise UserError(
            f"--format=onnx: jax2onnx cannot convert this network ({first_line(error)}); "
            "--format=stablehlo has all of JAX"
        ) from error
    return proto
