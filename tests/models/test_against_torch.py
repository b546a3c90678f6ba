"""Trunks equal PyTorch's networks with the same weights: outputs, gradients and statistics."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from affect_jax import models

torch = pytest.importorskip("torch")

# Written independently of `models.weight_mapping`, so that an error in either is detected.
ALEXNET_LAYERS = {
    **{f"features.{index}": f"conv{i + 1}.conv" for i, index in enumerate((0, 3, 6, 8, 10))},
    "classifier.1": "classifier.fc6",
    "classifier.4": "classifier.fc7",
}
STATISTICS_LEAVES = {"running_mean": "mean", "running_var": "var"}


def to_resnet_layer(name: str) -> str:
    """`layer2.0.downsample.1` -> `stage2_block1.shortcut.norm`."""
    name = re.sub(r"^(conv|bn)1$", r"stem.\g<1>", name)
    name = re.sub(r"^layer(\d)\.(\d)", lambda m: f"stage{m[1]}_block{int(m[2]) + 1}", name)
    name = re.sub(r"(conv|bn)(\d)$", r"layer\2.\1", name)
    name = name.replace("downsample.0", "shortcut.conv").replace("downsample.1", "shortcut.norm")
    return re.sub(r"bn$", "norm", name)


def to_our_layout(name: str, array: np.ndarray) -> np.ndarray:
    if name == "classifier.1.weight":  # its inputs are in the order channel, row, column
        side = int((array.shape[1] / 256) ** 0.5)
        return array.reshape(-1, 256, side, side).transpose(2, 3, 1, 0).reshape(array.shape[::-1])
    return array.transpose(*{4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[array.ndim])


def convert_variables(arrays: dict[str, Any], head: str) -> dict[str, Any]:
    """Converts values by their names in PyTorch to our params and batch_stats."""
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, tensor in arrays.items():
        layer, leaf = name.rsplit(".", 1)
        if leaf == "num_batches_tracked":
            continue
        if layer == head:
            path = ["expression"]
        else:
            path = ["trunk", *(ALEXNET_LAYERS.get(layer) or to_resnet_layer(layer)).split(".")]
        parameter_leaves = {"weight": "scale" if path[-1] == "norm" else "kernel", "bias": "bias"}
        collection = "batch_stats" if leaf in STATISTICS_LEAVES else "params"
        parent = variables[collection]
        for key in path:
            parent = parent.setdefault(key, {})
        parent[{**parameter_leaves, **STATISTICS_LEAVES}[leaf]] = to_our_layout(
            name, np.asarray(tensor).copy()
        )
    return variables


def to_nchw(images: np.ndarray):
    return torch.tensor(images).permute(0, 3, 1, 2)


def create_published_alexnet(width: int = 64, features: int = 256 * 36):
    """Builds the network of the 2012 paper from PyTorch's own layers."""
    nn = torch.nn

    def response_normalisation():  # PyTorch divides alpha by the size
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)

    network = nn.Sequential()
    network.features = nn.Sequential()
    layers = {
        "0": nn.Conv2d(3, 96, 11, 4, 2), "0r": nn.ReLU(), "0n": response_normalisation(),
        "0p": nn.MaxPool2d(3, 2),
        "3": nn.Conv2d(96, 256, 5, 1, 2, groups=2), "3r": nn.ReLU(), "3n": response_normalisation(),
        "3p": nn.MaxPool2d(3, 2),
        "6": nn.Conv2d(256, 384, 3, 1, 1), "6r": nn.ReLU(),
        "8": nn.Conv2d(384, 384, 3, 1, 1, groups=2), "8r": nn.ReLU(),
        "10": nn.Conv2d(384, 256, 3, 1, 1, groups=2), "10r": nn.ReLU(),
        "10p": nn.MaxPool2d(3, 2), "flat": nn.Flatten(),
    }  # fmt: skip
    for name, layer in layers.items():
        network.features.add_module(name, layer)
    network.classifier = nn.Sequential(
        nn.Identity(), nn.Linear(features, width), nn.ReLU(),
        nn.Identity(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10),
    )  # fmt: skip
    return network


TORCH_NETWORKS = {  # trunk: (options, PyTorch's name of the head)
    "alexnet": ({"width": 64, "dropout": 0.0}, "classifier.6"),
    "alexnet_one_tower": ({"dropout": 0.0}, "classifier.6"),
    "resnet18": ({}, "fc"),
}


@pytest.fixture(scope="module")
def networks(torch_network, request):
    """`networks(trunk, crop)`: PyTorch's network, our model, and the weights in our layout."""

    def create_networks(trunk: str, crop: int = 224):
        options, head = TORCH_NETWORKS[trunk]
        if trunk == "alexnet":
            side = {224: 6, 64: 1}[crop]
            torch_model = torch_network(create_published_alexnet, features=256 * side**2)
        else:
            name = trunk.removesuffix("_one_tower")
            torchvision = request.getfixturevalue("torchvision")
            torch_model = torch_network(torchvision.models.get_model, name=name, num_classes=10)
        model = models.model_from_spec({"name": trunk, **options}, ("expression",), num_classes=10)
        return torch_model, model, convert_variables(torch_model.state_dict(), head)

    return create_networks


@pytest.mark.slow
@pytest.mark.parametrize("trunk", TORCH_NETWORKS)
def test_logits_equal_torch(trunk, networks, faces):
    torch_model, model, variables = networks(trunk)
    images = faces(2, 224)
    with torch.no_grad():
        expected = torch_model(to_nchw(images)).numpy()
    logits = jax.jit(model.apply)(variables, images)["expression"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 0.1, "the images make no difference"


@pytest.mark.parametrize("trunk", ["alexnet", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_gradients_and_statistics_equal_torch(trunk, networks, faces):
    crop = 64
    torch_model, model, variables = networks(trunk, crop)
    images, labels = faces(4, crop), np.array([0, 3, 3, 7])

    torch_model.train()
    loss = torch.nn.functional.cross_entropy(torch_model(to_nchw(images)), torch.tensor(labels))
    loss.backward()
    parameter_names = {name for name, _ in torch_model.named_parameters()}
    torch_gradients = {name: p.grad.numpy() for name, p in torch_model.named_parameters()}
    torch_state = torch_model.state_dict()
    after = {name: t.numpy() for name, t in torch_state.items() if name not in parameter_names}
    head = TORCH_NETWORKS[trunk][1]
    expected = convert_variables({**torch_gradients, **after}, head)

    def objective(params, images):
        outputs, updates = model.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        rows = jax.nn.log_softmax(outputs["expression"])
        return -jnp.mean(rows[np.arange(4), labels]), updates

    step = jax.vmap(jax.value_and_grad(objective, has_aux=True), (None, 0), axis_name="batch")
    (model_loss, updates), gradients = jax.tree.map(
        lambda x: x[0], jax.jit(step)(variables["params"], images[None])
    )
    np.testing.assert_allclose(model_loss, loss.item(), rtol=1e-5)
    assert jax.tree.structure(gradients) == jax.tree.structure(expected["params"])
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        reference = get_leaf(expected["params"], path)
        error = np.linalg.norm(gradient - reference) / np.linalg.norm(reference)
        assert error < 1e-3, f"{jax.tree_util.keystr(path)}: {error:.1e}"
    assert_statistics_match(updates.get("batch_stats", {}), variables, expected, images.shape)


def assert_statistics_match(batch_stats, variables, expected, shape):
    """Means equal PyTorch's, and so do variances after removing its factor n / (n - 1)."""
    strides = {"stem": 2, "stage1": 4, "stage2": 8, "stage3": 16, "stage4": 32}
    for path, after in jax.tree_util.tree_leaves_with_path(batch_stats):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        reference = get_leaf(expected["batch_stats"], path)
        before = get_leaf(variables["batch_stats"], path)
        if name.endswith("var"):
            n = shape[0] * (shape[1] // strides[name.split(".")[1].split("_")[0]]) ** 2
            reference = 0.9 * before + (reference - 0.9 * before) * (n - 1) / n
        np.testing.assert_allclose(after, reference, rtol=1e-3, atol=1e-5, err_msg=name)
        assert np.abs(after - before).max() > 1e-3, f"{name} did not move"


def get_leaf(tree: Any, path: Any) -> Any:
    for key in path:
        tree = tree[key.key]
    return tree


@pytest.mark.slow
@pytest.mark.parametrize("trunk", ["alexnet_one_tower", "resnet18"])
def test_initialisation_equals_torchvision_in_distribution(trunk, torchvision):
    options = {"width": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch_model = torchvision.models.get_model(
            trunk.removesuffix("_one_tower"), num_classes=100
        )
        if trunk == "alexnet_one_tower":  # narrower for speed, created like torchvision's layers
            for i, shape in ((1, (9216, 64)), (4, (64, 64)), (6, (64, 100))):
                torch_model.classifier[i] = torch.nn.Linear(*shape)
    expected = convert_variables(torch_model.state_dict(), TORCH_NETWORKS[trunk][1])
    model = models.model_from_spec({"name": trunk, **options}, ("expression",), num_classes=100)
    variables = dict(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 224, 224, 3))))
    variables.setdefault("batch_stats", {})
    assert jax.tree.structure(variables) == jax.tree.structure(expected)
    random = np.random.default_rng(0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        values, reference = np.asarray(leaf), get_leaf(expected, path)
        assert values.shape == reference.shape, name
        if np.ptp(reference) == 0:
            np.testing.assert_array_equal(values, reference, err_msg=name)
            continue
        a, b = (
            random.choice(array.ravel(), min(array.size, 20_000)) for array in (values, reference)
        )
        assert stats.ks_2samp(a, b).pvalue > 1e-4, name


def init_published_alexnet(initialisation: str) -> dict[str, Any]:
    """Parameters by layer: conv1 to conv5, fc6, fc7."""
    spec = {"name": "alexnet", "width": 256, "initialisation": initialisation}
    model = models.model_from_spec(spec, ("expression",))
    trunk = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]["trunk"]
    return {f"conv{i}": trunk[f"conv{i}"]["conv"] for i in range(1, 6)} | trunk["classifier"]


def test_published_initialisation_matches_paper():
    """Krizhevsky et al. 2012, section 5: deviation 0.01; biases 1 in layers 2, 4, 5, 6 and 7."""
    for i, (name, layer) in enumerate(init_published_alexnet("published").items(), start=1):
        np.testing.assert_array_equal(layer["bias"], 0 if i in (1, 3) else 1, err_msg=name)
        sample = np.ravel(layer["kernel"])[:20_000]
        assert stats.kstest(sample, stats.norm(0, 0.01).cdf).pvalue > 1e-4, name


@pytest.mark.slow
def test_he_initialisation_has_expected_variance():
    """He et al. 2015, equation 10: variance 2 / fan in, biases 0. Two towers halve the fan in."""
    for name, layer in init_published_alexnet("he").items():
        kernel = np.asarray(layer["kernel"])
        assert not np.any(layer["bias"]), name
        fan_in = np.prod(kernel.shape[:-1])
        np.testing.assert_allclose(kernel.var() * fan_in, 2, rtol=0.03, err_msg=name)
        assert abs(kernel.mean()) < 0.02 * kernel.std(), name
