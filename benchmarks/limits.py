"""What a card can do at most, and how much of it a network needs."""

from __future__ import annotations

import math
from typing import Any

from benchmarks import peers, recording

SIDE = 8192  # of the matrices: large enough that a card is busy with nothing else
TOGETHER = 10  # products that are waited for at once: after each the card would stand still


def peak(side: int = SIDE) -> float:
    """FLOP/s of a product of two bfloat16 matrices of random numbers: the best of ten times."""
    import jax
    import jax.numpy as jnp

    matrix = jax.random.normal(jax.random.key(0), (side, side), jnp.bfloat16)
    product = jax.jit(jnp.matmul)

    def several() -> None:
        jax.block_until_ready([product(matrix, matrix) for _ in range(TOGETHER)])

    several()
    return 2 * side**3 * TOGETHER / min(recording.seconds_of(several) for _ in range(10))


def operations(name: str, *, crop_size: int, training: bool, width: int | None = None) -> float:
    """Floating-point operations of a network for one image: of its products and convolutions.

    Two for each multiplication with its addition, counted by PyTorch's own counter; in training
    forwards and backwards.
    """
    torch = peers.torch()
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        counted = peers.network(name, crop_size=crop_size, width=width)
        images = torch.empty(2, 3, crop_size, crop_size)
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: of_gradients}
    )
    with counter, torch.set_grad_enabled(training):
        result = counted(images)
        if training:
            result.sum().backward()
    return counter.get_total_flops() / 2


def of_gradients(outputs: Any, _: Any, weights: Any, *options: Any, **__: Any) -> int:
    """By shapes, each of a convolution's as many as forwards: PyTorch's count forgets groups."""
    each = 2 * outputs[0] * math.prod(outputs[2:]) * math.prod(weights)
    return each * sum(options[-1][:2])  # whether to inputs, to weights
