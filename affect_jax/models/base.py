"""The registry of trunks, the networks that turn images into features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from flax import linen as nn

from affect_jax.core.errors import UserError
from affect_jax.core.registry import (
    AT_LEAST_1,
    SHARE,
    Registry,
    Requirement,
    describe_unknown_name,
    require_option,
)

TRUNKS = Registry("trunk")
"""Name -> linen module. The module's fields are its options; `dtype` is supplied by code.

A trunk is called as `trunk(images [b, c, c, 3], train=bool, keys=[b] or None) -> features [b, F]`.
`keys` are typed dropout keys, one per example. Batch normalisation averages over the axis "batch"
if `train` is set.

Images are normalised with ImageNet's mean and deviation. If the last feature map of a trunk has no
ReLU, its class sets `SIGNED_FEATURE_MAP = True`, see `evaluate.grad_cam`.

A trunk may have a method `layers() -> [(prefix, ...), ...]` for the optimizers' `layer_decay`: for
each layer, from the input, the prefixes of its parameters' names. A name belongs to its longest
prefix. Parameters without a prefix belong to the output.
"""


class Trunk(nn.Module):
    """A linen module that checks its options."""

    CHOICES: ClassVar[Mapping[str, Collection[str]]] = {}  # option -> its values
    REQUIREMENTS: ClassVar[Mapping[str, Requirement]] = {  # if the trunk has the option
        "width": AT_LEAST_1,
        "dropout": SHARE,
        "stochastic_depth": SHARE,
    }

    def __post_init__(self) -> None:
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for option, choices in self.CHOICES.items():
            if options[option] not in choices:
                problem = describe_unknown_name(options[option], choices)
                raise UserError(f"trunk.{option} = {problem}")
        for option, requirement in self.REQUIREMENTS.items():
            if option in options:
                require_option(f"trunk.{option}", options[option], *requirement)
        super().__post_init__()


class StagedTrunk(Trunk):
    """A trunk of a stem, stages of blocks and, in some, further layers."""

    BLOCKS: ClassVar[Sequence[int]] = ()  # number of blocks of each stage
    STEM: ClassVar[tuple[str, ...]] = ("stem",)  # names of the modules before the first block
    LAST: ClassVar[tuple[str, ...]] = ()  # and after the last

    @nn.nowrap
    def blocks(self) -> Iterator[tuple[int, int, str]]:
        """Yields (stage, block of the stage, name of the module), both numbers from 0."""
        for stage, count in enumerate(self.BLOCKS):
            yield from ((stage, i, f"stage{stage + 1}_block{i + 1}") for i in range(count))

    @nn.nowrap
    def layers(self) -> list[tuple[str, ...]]:
        """The stem, each block, and the layers after them, see `TRUNKS`."""
        layers = [self.STEM, *((name,) for *_, name in self.blocks()), self.LAST]
        return [names for names in layers if names]


@dataclasses.dataclass(frozen=True)
class TorchMapping:
    """Maps the weights of a PyTorch network to the parameters of a trunk.

    **Arguments:**

    - `requirement`: the PyTorch network, and the options with which its shapes fit, for messages.
    - `to_torch_name`: name of an array of the trunk, such as `stem.conv.weight`, -> its name in
      PyTorch. The last part is PyTorch's already, see `weight_mapping.TORCH_LEAVES`.
    - `head`: name in PyTorch of the classification layer; empty if files have none.
    - `reorder_axes`: (name in PyTorch, array) -> array with another order of inputs or shape. Its
      axes stay in PyTorch's order.
    - `fit_shape`: (name in the trunk, array, shape) -> array. It is called for an array, in the
      order of our axes, whose shape differs from that of the trunk: also for weights of a run.
    - `rename`: name in a file -> name in PyTorch as above, for files of a second library.
    - `optional`: beginnings of names in PyTorch. If a file lacks such an array, the trunk keeps its
      initial value; a file may hold such arrays that the trunk lacks.
    """

    requirement: str
    to_torch_name: Callable[[str], str]
    head: str
    reorder_axes: Callable[[str, Any], Any] = lambda name, array: array
    fit_shape: Callable[[str, Any, tuple[int, ...]], Any] = lambda name, array, shape: array
    rename: Callable[[str], str] = lambda name: name
    optional: tuple[str, ...] = ()


TORCH_MAPPINGS: dict[str, TorchMapping] = {}
"""Trunk name -> its mapping. The file of a trunk adds the entry."""
