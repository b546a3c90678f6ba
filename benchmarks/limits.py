"""What a card can do at most, and how much of it a network needs."""

from __future__ import annotations

from benchmarks import peers, recording

SIDE = 8192  # of the matrices: large enough that a card is busy with nothing else


def peak(side: int = SIDE) -> float:
    """FLOP/s of a product of two bfloat16 matrices of random numbers: the best of ten."""
    import jax
    import jax.numpy as jnp

    matrix = jax.random.normal(jax.random.key(0), (side, side), jnp.bfloat16)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    seconds = min(
        recording.seconds_of(lambda: product(matrix, matrix).block_until_ready()) for _ in range(10)
    )
    return 2 * side**3 / seconds


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
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
        result = counted(images)
        if training:
            result.sum().backward()
    return counter.get_total_flops() / 2
