"""Compares a trunk with loaded weights with the PyTorch network of the weights."""

from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from affect_jax import models
from affect_jax.models import weight_mapping
from tests.models.conftest import randomize_values

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def to_signed(images: np.ndarray) -> np.ndarray:
    """Images with our normalisation -> images in [-1, 1]."""
    return 2 * (images * np.array(IMAGENET_STD) + np.array(IMAGENET_MEAN)) - 1


def load(network, spec: dict[str, Any], crop: int):
    """Returns the trunk, its variables from the network, and `to_variables(arrays)`."""
    model = models.model_from_spec(spec, ("expression",))
    images = jax.ShapeDtypeStruct((1, crop, crop, 3), jnp.float32)
    shapes = dict(jax.eval_shape(model.init, jax.random.key(0), images))
    params, batch_stats = shapes["params"], shapes.get("batch_stats", {})

    def to_variables(arrays: dict[str, np.ndarray]):
        *trees, report = weight_mapping.load(
            arrays, params, batch_stats, trunk=spec["name"], source="w.pth"
        )
        trees = [tree.get("trunk", {}) for tree in trees]
        return dict(zip(("params", "batch_stats"), trees, strict=True)), report

    state = {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}
    variables, report = to_variables(state)
    assert set(report.initialised) == {"params.expression.bias", "params.expression.kernel"}
    assert not report.unused
    return model.trunk, variables, lambda arrays: to_variables(arrays)[0]


def assert_equal(
    network,
    spec: dict[str, Any],
    crop: int,
    convert=lambda images: images,
    gradient_tolerance: float = 1e-3,
) -> None:
    """Compares features in evaluation; then gradients and statistics of a training step.

    The relative error of the features may be 1e-4. In a network so deep that PyTorch's own features
    in float32 are further from those in float64, it may be three times as large as theirs.

    **Arguments:**

    - `convert`: images with our normalisation -> images for the network.
    - `gradient_tolerance`: relative error of the gradient of an array.
    """
    randomize_values(network, seed=0)
    trunk, variables, to_variables = load(network, spec, crop)
    random = np.random.default_rng(7)
    images = random.normal(size=(4, crop, crop, 3)).astype(np.float32)
    torch_images = torch.tensor(convert(images)).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = copy.deepcopy(network).double().eval()(torch_images.double()).numpy()
        rounding = np.abs(network.eval()(torch_images).numpy() - expected).max()
    features = jax.jit(trunk.apply)(variables, images)
    scale = np.abs(expected).max()
    assert np.abs(features - expected).max() < max(1e-4 * scale, 3 * rounding)
    assert np.abs(expected[0] - expected[1]).max() > 0.05 * scale, "images make no difference"

    probe = random.normal(size=expected.shape).astype(np.float32)
    gradients = _train_torch(network, torch_images, torch.tensor(probe))
    expected = to_variables(gradients)

    def objective(params, images):
        outputs, updates = trunk.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        return jnp.sum(outputs * probe), updates

    step = jax.vmap(jax.grad(objective, has_aux=True), (None, 0), axis_name="batch")
    gradients, updates = jax.jit(step)(variables["params"], jnp.asarray(images)[None])
    actual = {"params": gradients, "batch_stats": updates.get("batch_stats", {})}
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    total = np.linalg.norm([np.linalg.norm(leaf) for leaf in jax.tree.leaves(expected["params"])])
    for (path, values), reference in zip(
        jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        # A gradient that is zero, such as that of a bias before normalisation, holds rounding.
        tolerance = gradient_tolerance if path[0].key == "params" else 1e-4
        limit = tolerance * np.linalg.norm(reference) + 1e-6 * total
        assert np.linalg.norm(values[0] - reference) < limit, jax.tree_util.keystr(path)


def _train_torch(network, images, probe) -> dict[str, np.ndarray]:
    """Gradients and running statistics after a step; variances without PyTorch's n / (n - 1)."""
    counts, before = {}, {k: v.numpy().copy() for k, v in network.state_dict().items()}

    def count_values(name: str):
        def hook(module, inputs, output) -> None:
            counts[f"{name}.running_var"] = output.numel() / output.shape[1]

        return hook

    for name, module in network.train().named_modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.register_forward_hook(count_values(name))
    (network(images) * probe).sum().backward()
    arrays = {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}
    for name, n in counts.items():
        arrays[name] = 0.9 * before[name] + (arrays[name] - 0.9 * before[name]) * (n - 1) / n
    return arrays | {name: p.grad.numpy() for name, p in network.named_parameters()}
