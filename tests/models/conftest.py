"""PyTorch as a peer: its networks with random weights, and their weights in our layout."""

from __future__ import annotations

import types

import numpy as np
import pytest


@pytest.fixture(scope="session")
def torchvision() -> types.ModuleType:
    """torchvision, also one whose compiled operators do not fit the installed PyTorch."""
    torch = pytest.importorskip("torch")
    try:
        import torchvision
    except ModuleNotFoundError:
        pytest.skip("needs torchvision: pip install affect_jax[torch]")
    except RuntimeError:  # an operator does not exist: declare those that its modules mention
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor")
        import torchvision

        torchvision.library_of_tests = library  # pyright: ignore  # lives as long as the module
    return torchvision


@pytest.fixture(scope="session")
def timm(torchvision) -> types.ModuleType:
    """timm, which imports torchvision."""
    return pytest.importorskip("timm")


def randomise(network, seed: int) -> None:
    """Random values everywhere: zeros and ones hide errors, and so do kernels that lose the signal.

    Kernels are normal with deviation sqrt(2 / fan in) (He et al. 2015, equation 10).
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
def peer():
    """`peer(create, seed=0, **options)`: a PyTorch network for evaluation, all values random."""
    import torch

    def make(create, seed: int = 0, **options):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = create(**options)
        randomise(network, seed)
        return network.eval()

    return make


@pytest.fixture(scope="session")
def faces():
    """`faces(count, size)`: random images, float32 [count, size, size, 3]."""

    def make(count: int, size: int) -> np.ndarray:
        random = np.random.default_rng(7)
        return random.normal(size=(count, size, size, 3)).astype(np.float32)

    return make
