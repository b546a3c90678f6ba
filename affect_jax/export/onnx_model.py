"""A function of JAX's as an ONNX model: traced once, then written down equation by equation.

Whatever does not depend on the input is computed here and stands in the graph as a constant.

jax2onnx 0.17.1 was tried first: of ResNet18 it makes a graph that onnxruntime refuses to load, and
it does not install beside the Orbax that the checkpoints need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax import export as jax_export
from jax.extend.core import Literal
from onnx import helper

from affect_jax.export.onnx_graph import Graph, Operand, Value, data_type, no_rule
from affect_jax.export.onnx_rules import RULES

OPSET = 17
IR_VERSION = 8
"""Both are of 2022, so that old runtimes read the file too (onnxruntime from 1.12 on)."""


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

    **Raises:** `UserError` that names a primitive without a rule.
    """
    (batch,) = jax_export.symbolic_shape("batch")
    given = jax.ShapeDtypeStruct((batch, *image), np.uint8)
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(given)
    graph = Graph()
    outputs = _walk(graph, traced.jaxpr, traced.consts, [Value("image", given.shape)])
    names = [
        path[0].key  # pyright: ignore[reportAttributeAccessIssue]
        for path, _ in jax.tree_util.tree_leaves_with_path(shapes)
    ]
    infos = []
    for output, value, shape in zip(names, outputs, jax.tree.leaves(shapes), strict=True):
        graph.nodes.append(helper.make_node("Identity", [graph.aligned(value, False)], [output]))
        infos.append(_info(output, shape.shape, shape.dtype))
    made = helper.make_graph(
        graph.nodes, name, [_info("image", given.shape, given.dtype)], infos, graph.initializers
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="affect_jax"
    )
    helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model, full_check=True)
    return model


def _info(name: str, shape: Sequence[Any], dtype: Any) -> onnx.ValueInfoProto:
    sizes = [size if isinstance(size, int) else str(size) for size in shape]
    return helper.make_tensor_value_info(name, data_type(dtype), sizes)


def _walk(graph: Graph, jaxpr: Any, consts: Sequence[Any], given: list[Operand]) -> list[Operand]:
    """Writes the equations of a jaxpr down one after another; its results."""
    known: dict[Any, Operand] = dict(zip(jaxpr.invars, given, strict=True))
    known |= {var: np.asarray(value) for var, value in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> Operand:
        if isinstance(atom, Literal):
            return np.asarray(atom.val, atom.aval.dtype)  # pyright: ignore
        return known[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        name = equation.primitive.name
        if name in INLINED:
            inner = equation.params[INLINED[name]]
            results = _walk(graph, inner.jaxpr, inner.consts, operands)
        elif all(isinstance(operand, np.ndarray) for operand in operands):
            results = _computed(equation, operands)
        elif name in RULES:
            results = RULES[name](graph, equation, operands)
        else:
            raise no_rule(equation, "")
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


INLINED = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}
"""Primitives that are a function of their own, and the parameter that holds it."""


def _computed(equation: Any, operands: Sequence[Operand]) -> list[Operand]:
    values = equation.primitive.bind(*operands, **equation.params)
    results = values if equation.primitive.multiple_results else [values]
    return [np.asarray(value) for value in results]
