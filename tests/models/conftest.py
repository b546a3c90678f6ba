"""Fixtures: PyTorch networks with random weights, and random images."""

from __future__ import annotations

import numpy as np
import pytest


def randomize_values(network, seed: int) -> None:
    """Sets all values at random: zeros and ones hide errors, and so do kernels that lose the
    signal.

    Kernels are normal with standard deviation sqrt(2 / fan in) (He et al. 2015, equation 10).
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim == 1:
                tensor.normal_(0, 0.1, generator=generator)
            elif tensor.ndim > 1:
                fan_in = tensor[0].numel()
                tensor.normal_(0, (2 / fan_in) ** 0.5, generator=generator)


@pytest.fixture(scope="session")
def torch_network():
    """`torch_network(factory, seed=0, **options)`: a random PyTorch network in evaluation mode."""
    import torch

    def create_network(factory, seed: int = 0, **options):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = factory(**options)
        randomize_values(network, seed)
        return network.eval()

    return create_network


@pytest.fixture(scope="session")
def faces():
    """`faces(count, size)`: random images, float32 [count, size, size, 3]."""

    def create_images(count: int, size: int) -> np.ndarray:
        random = np.random.default_rng(7)
        return random.normal(size=(count, size, size, 3)).astype(np.float32)

    return create_images
