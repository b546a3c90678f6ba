"""An ONNX graph while it is written: its tensors, nodes and constants.

Images have channels first in it, which is ONNX's order.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from affect_jax.errors import UserError

CHANNELS_FIRST = (0, 3, 1, 2)
CHANNELS_LAST = (0, 2, 3, 1)
PLACE = {axis: place for place, axis in enumerate(CHANNELS_FIRST)}
"""Where an axis of [b, h, w, C] stands in [b, C, h, w]."""


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    **Arguments:**

    - `name`: in the graph.
    - `shape`: in JAX; the batch is a symbol.
    - `first`: in the graph its axes are [b, C, h, w], in JAX [b, h, w, C].
    """

    name: str
    shape: tuple[Any, ...]
    first: bool = False


Operand: TypeAlias = Value | np.ndarray


class Graph:
    """What is written down so far."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._names: dict[tuple[Any, ...], str] = {}

    def constant(self, array: np.ndarray) -> str:
        """The name of a constant; equal ones are one, so that a mirrored pass costs no weights."""
        array = np.asarray(array, order="C")
        key = (array.dtype, array.shape, hashlib.sha256(array.data).digest())
        if key not in self._names:
            self._names[key] = f"constant_{len(self.initializers)}"
            self.initializers.append(numpy_helper.from_array(array, self._names[key]))
        return self._names[key]

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output; its name."""
        return self.split(kind, 1, *inputs, **attributes)[0]

    def split(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Adds a node with several outputs; their names."""
        place = len(self.nodes)
        names = [f"{kind.lower()}_{place}" + (f"_{i}" if i else "") for i in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names

    def aligned(self, operand: Operand, first: bool) -> str:
        """The name of an operand with its axes in the order asked for."""
        if isinstance(operand, np.ndarray):
            turned = operand.transpose(CHANNELS_FIRST) if first and operand.ndim == 4 else operand
            return self.constant(turned)
        if operand.first == first or len(operand.shape) != 4:
            return operand.name
        return self.node("Transpose", operand.name, perm=CHANNELS_FIRST if first else CHANNELS_LAST)


def data_type(dtype: Any) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def no_rule(equation: Any, what: str) -> UserError:
    name = equation.primitive.name
    return UserError(
        f"--format=onnx: the network uses JAX's {name}{what}, which has no rule in "
        "affect_jax/export/onnx_rules.py; --format=stablehlo has all of JAX"
    )
