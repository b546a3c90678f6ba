"""How each of JAX's primitives is said in ONNX: one rule a primitive.

Only what the trunks and heads are made of has a rule. A trunk with another primitive is told so by
name, and one more entry in `RULES` is all that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from affect_jax.export.onnx_graph import (
    CHANNELS_FIRST,
    PLACE,
    Graph,
    Operand,
    Value,
    data_type,
    no_rule,
)


def _shape(equation: Any) -> tuple[Any, ...]:
    return equation.outvars[0].aval.shape


def _elementwise(kind: str) -> Callable[..., list[Operand]]:
    def rule(graph: Graph, equation: Any, operands: list[Operand]) -> list[Operand]:
        first = any(isinstance(operand, Value) and operand.first for operand in operands)
        node, given = kind, list(operands)
        last = given[-1]
        if kind == "Sub" and isinstance(last, np.ndarray):  # runtimes fuse sums into convolutions
            node, given[-1] = "Add", np.asarray(-last)
        if kind == "Max":  # and only what is called Relu
            zeros = [o for o in given if isinstance(o, np.ndarray) and not o.shape and o == 0]
            if zeros:
                node, given = "Relu", [o for o in given if isinstance(o, Value)]
        names = [graph.aligned(operand, first) for operand in given]
        return [Value(graph.node(node, *names), _shape(equation), first)]

    return rule


def _square(graph: Graph, equation: Any, operands: list[Value]) -> list[Operand]:
    (value,) = operands
    return [Value(graph.node("Mul", value.name, value.name), value.shape, value.first)]


def _same(graph: Graph, equation: Any, operands: list[Value]) -> list[Operand]:
    return [operands[0]]


def _cast(graph: Graph, equation: Any, operands: list[Value]) -> list[Operand]:
    (value,) = operands
    name = graph.node("Cast", value.name, to=data_type(equation.params["new_dtype"]))
    return [Value(name, value.shape, value.first)]


def _slice(graph: Graph, equation: Any, operands: list[Value]) -> list[Operand]:
    (value,) = operands
    starts, ends = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or [1] * len(starts)
    axes = [
        axis
        for axis, size in enumerate(value.shape)
        if (starts[axis], ends[axis], steps[axis]) != (0, size, 1)
    ]
    bounds = [[numbers[axis] for axis in axes] for numbers in (starts, ends, range(4), steps)]
    names = [graph.integers(*numbers) for numbers in bounds]
    return [Value(graph.node("Slice", graph.aligned(value, False), *names), _shape(equation))]


def _reverse(graph: Graph, equation: Any, operands: list[Value]) -> list[Operand]:
    (value,) = operands
    axes = [PLACE[axis] if value.first else axis for axis in equation.params["dimensions"]]
    before_all = np.iinfo(np.int64).min
    bounds = ([-1] * len(axes), [before_all] * len(axes), axes, [-1] * len(axes))
    names = [graph.integers(*values) for values in bounds]
    return [Value(graph.node("Slice", value.name, *names), value.shape, value.first)]


def _split(graph: Graph, equation: Any, operands: list[Value]) -> list[Operand]:
    (value,) = operands
    sizes, axis = equation.params["sizes"], equation.params["axis"]
    if len(sizes) == 1:
        return [value]
    place = PLACE[axis] if value.first else axis
    names = graph.split("Split", len(sizes), value.name, graph.integers(*sizes), axis=place)
    shapes = [var.aval.shape for var in equation.outvars]
    return [Value(*pair, value.first) for pair in zip(names, shapes, strict=True)]


def _concatenate(graph: Graph, equation: Any, operands: list[Operand]) -> list[Operand]:
    first = any(isinstance(operand, Value) and operand.first for operand in operands)
    axis = equation.params["dimension"]
    names = [graph.aligned(operand, first) for operand in operands]
    name = graph.node("Concat", *names, axis=PLACE[axis] if first else axis)
    return [Value(name, _shape(equation), first)]


def _reshape(graph: Graph, equation: Any, operands: list[Value]) -> list[Operand]:
    """Also `broadcast_in_dim` where it only adds axes of length 1."""
    (value,) = operands
    shape = _shape(equation)
    if len([size for size in shape if not isinstance(size, int)]) > 1:
        raise no_rule(equation, f" to {shape}")
    sizes = graph.integers(*(size if isinstance(size, int) else -1 for size in shape))
    return [Value(graph.node("Reshape", graph.aligned(value, False), sizes), shape)]


def _broadcast(graph: Graph, equation: Any, operands: list[Value]) -> list[Operand]:
    (value,) = operands
    shape, axes = _shape(equation), equation.params["broadcast_dimensions"]
    others = [size for i, size in enumerate(shape) if i not in axes]
    if [shape[i] for i in axes] != list(value.shape) or others != [1] * len(others):
        raise no_rule(equation, f" from {value.shape} to {shape}")
    return _reshape(graph, equation, operands)


def _reduce(kind: str) -> Callable[..., list[Operand]]:
    def rule(graph: Graph, equation: Any, operands: list[Value]) -> list[Operand]:
        (value,) = operands
        axes = sorted(equation.params["axes"])
        spatial = value.first and axes == [1, 2]  # [b, C] remains, in either order of axes
        name = value.name if spatial else graph.aligned(value, False)
        places = [PLACE[axis] for axis in axes] if spatial else axes
        if kind == "ReduceSum":  # its axes are an input from opset 13 on, others' from 18
            return [
                Value(graph.node(kind, name, graph.integers(*places), keepdims=0), _shape(equation))
            ]
        return [Value(graph.node(kind, name, axes=places, keepdims=0), _shape(equation))]

    return rule


def _dot(graph: Graph, equation: Any, operands: list[Operand]) -> list[Operand]:
    numbers = equation.params["dimension_numbers"]
    if numbers != (((1,), (0,)), ((), ())):
        raise no_rule(equation, f" with {numbers}")
    names = [graph.aligned(operand, False) for operand in operands]
    return [Value(graph.node("MatMul", *names), _shape(equation))]


def _convolution(graph: Graph, equation: Any, operands: list[Operand]) -> list[Operand]:
    image, kernel = operands
    asked = equation.params
    numbers = asked["dimension_numbers"]
    order = (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec)
    usual = order == (CHANNELS_FIRST, (3, 2, 0, 1), CHANNELS_FIRST)
    plain = asked["batch_group_count"] == 1 and set(asked["lhs_dilation"]) == {1}
    if not usual or not plain or not isinstance(kernel, np.ndarray):
        raise no_rule(equation, " of another kind than [b, h, w, C] by a constant kernel")
    name = graph.node(
        "Conv",
        graph.aligned(image, True),
        graph.constant(kernel.transpose(3, 2, 0, 1)),
        strides=asked["window_strides"],
        pads=_pads(asked["padding"]),
        dilations=asked["rhs_dilation"],
        group=asked["feature_group_count"],
    )
    return [Value(name, _shape(equation), True)]


def _pads(padding: Sequence[tuple[int, int]]) -> list[int]:
    return [before for before, _ in padding] + [after for _, after in padding]


def _window(equation: Any) -> tuple[Any, ...]:
    """Sizes, strides and paddings of the windows."""
    asked = equation.params
    if set(asked["base_dilation"]) | set(asked["window_dilation"]) != {1}:
        raise no_rule(equation, " with dilation")
    return tuple(asked[key] for key in ("window_dimensions", "window_strides", "padding"))


def _max_pool(graph: Graph, equation: Any, operands: list[Value]) -> list[Operand]:
    window, strides, padding = _window(equation)
    outer = [(window[i], strides[i], tuple(padding[i])) for i in (0, len(window) - 1)]
    if len(window) != 4 or outer != [(1, 1, (0, 0))] * 2:
        raise no_rule(equation, f" over windows of {window}")
    name = graph.node(
        "MaxPool",
        graph.aligned(operands[0], True),
        kernel_shape=window[1:3],
        strides=strides[1:3],
        pads=_pads(padding[1:3]),
    )
    return [Value(name, _shape(equation), True)]


def _sum_of_channels(graph: Graph, equation: Any, operands: list[Value]) -> list[Operand]:
    """Sums over neighbouring channels, which response normalisation takes: a 1 x 1 convolution."""
    window, strides, padding = _window(equation)
    if len(window) != 4 or set(window[:3]) != {1} or set(strides) != {1}:
        raise no_rule(equation, f" over windows of {window}")
    inputs, outputs = operands[0].shape[-1], _shape(equation)[-1]
    distance = np.arange(inputs)[None] - np.arange(outputs)[:, None] + padding[3][0]
    band = ((distance >= 0) & (distance < window[3])).astype(np.float32)
    name = graph.node(
        "Conv", graph.aligned(operands[0], True), graph.constant(band[:, :, None, None])
    )
    return [Value(name, _shape(equation), True)]


RULES: dict[str, Callable[..., list[Operand]]] = {
    **{name: _elementwise(name.capitalize()) for name in ("add", "sub", "mul", "div", "pow")},
    **{name: _elementwise(name.capitalize()) for name in ("max", "min", "exp")},
    "logistic": _elementwise("Sigmoid"),
    "square": _square,
    "stop_gradient": _same,
    "convert_element_type": _cast,
    "slice": _slice,
    "rev": _reverse,
    "split": _split,
    "concatenate": _concatenate,
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "reduce_window_max": _max_pool,
    "reduce_window_sum": _sum_of_channels,
}
"""JAX's primitive -> what writes it down: (graph, equation, operands) -> results."""
