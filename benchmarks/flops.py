"""Measures the peak FLOP/s of a GPU, and counts the FLOPs of a network."""

from __future__ import annotations

import math
from typing import Any

from benchmarks import frameworks, harness

MATRIX_SIZE = 8192  # large enough that launch overhead does not matter
PRODUCTS_PER_SYNC = 10  # waiting after each product would leave the GPU idle


def measure_peak_flops(size: int = MATRIX_SIZE) -> float:
    """Returns the FLOP/s of a product of two random bfloat16 matrices: the best of ten runs."""
    import jax
    import jax.numpy as jnp

    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    product = jax.jit(jnp.matmul)

    def multiply() -> None:
        jax.block_until_ready([product(matrix, matrix) for _ in range(PRODUCTS_PER_SYNC)])

    multiply()
    return (
        2 * size**3 * PRODUCTS_PER_SYNC / min(harness.measure_seconds(multiply) for _ in range(10))
    )


def count_flops(name: str, *, crop_size: int, training: bool, width: int | None = None) -> float:
    """Returns the FLOPs of the products and convolutions of a network for one image.

    PyTorch's counter counts them. A multiply-add counts as two. With `training`, the backward pass
    counts too.
    """
    torch = frameworks.torch()
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = frameworks.create_torch_network(name, crop_size=crop_size, width=width)
        images = torch.empty(2, 3, crop_size, crop_size)
    counter = FlopCounterMode(
        display=False,
        custom_mapping={torch.ops.aten.convolution_backward: convolution_gradient_flops},
    )
    with counter, torch.set_grad_enabled(training):
        outputs = network(images)
        if training:
            outputs.sum().backward()
    return counter.get_total_flops() / 2


def convolution_gradient_flops(outputs: Any, _: Any, weights: Any, *options: Any, **__: Any) -> int:
    """Returns the FLOPs of the gradients of a convolution, from shapes.

    Each gradient needs as many as the forward pass. PyTorch's own count ignores groups.
    """
    flops_per_gradient = 2 * outputs[0] * math.prod(outputs[2:]) * math.prod(weights)
    return flops_per_gradient * sum(options[-1][:2])  # mask: inputs, weights
