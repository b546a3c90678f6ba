"""Trunks against PyTorch's networks: weights transplanted, outputs, gradients, statistics equal."""

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

# By hand, apart from what `models.pretrained` knows: one of the two would notice the other's error.
ALEXNET = {
    **{f"features.{index}": f"conv{i + 1}.conv" for i, index in enumerate((0, 3, 6, 8, 10))},
    "classifier.1": "classifier.fc6",
    "classifier.4": "classifier.fc7",
}
LEAVES = {"running_mean": "mean", "running_var": "var"}


def resnet_layer(name: str) -> str:
    """`layer2.0.downsample.1` -> `stage2_block1.shortcut.norm`."""
    name = re.sub(r"^(conv|bn)1$", r"stem.\g<1>", name)
    name = re.sub(r"^layer(\d)\.(\d)", lambda m: f"stage{m[1]}_block{int(m[2]) + 1}", name)
    name = re.sub(r"(conv|bn)(\d)$", r"layer\2.\1", name)
    name = name.replace("downsample.0", "shortcut.conv").replace("downsample.1", "shortcut.norm")
    return re.sub(r"bn$", "norm", name)


def in_our_layout(name: str, array: np.ndarray) -> np.ndarray:
    if name == "classifier.1.weight":  # of features in the order channel, row, column
        side = int((array.shape[1] / 256) ** 0.5)
        return array.reshape(-1, 256, side, side).transpose(2, 3, 1, 0).reshape(array.shape[::-1])
    return array.transpose(*{4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[array.ndim])


def transplanted(arrays: dict[str, Any], head: str) -> dict[str, Any]:
    """Values by PyTorch's names -> our params and batch_stats."""
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, tensor in arrays.items():
        layer, leaf = name.rsplit(".", 1)
        if leaf == "num_batches_tracked":
            continue
        if layer == head:
            path = ["expression"]
        else:
            path = ["trunk", *(ALEXNET.get(layer) or resnet_layer(layer)).split(".")]
        plain = {"weight": "scale" if path[-1] == "norm" else "kernel", "bias": "bias"}
        kind = "batch_stats" if leaf in LEAVES else "params"
        place = variables[kind]
        for key in path:
            place = place.setdefault(key, {})
        place[{**plain, **LEAVES}[leaf]] = in_our_layout(name, np.asarray(tensor).copy())
    return variables


def nchw(images: np.ndarray):
    return torch.tensor(images).permute(0, 3, 1, 2)


def published_alexnet(width: int = 64, features: int = 256 * 36):
    """The network of the 2012 paper from PyTorch's own layers."""
    nn = torch.nn

    def normalised():  # PyTorch divides alpha by the size
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)

    network = nn.Sequential()
    network.features = nn.Sequential()
    layers = {
        "0": nn.Conv2d(3, 96, 11, 4, 2), "0r": nn.ReLU(), "0n": normalised(),
        "0p": nn.MaxPool2d(3, 2),
        "3": nn.Conv2d(96, 256, 5, 1, 2, groups=2), "3r": nn.ReLU(), "3n": normalised(),
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


PEERS = {  # trunk: (options, PyTorch's name of the head)
    "alexnet": ({"width": 64, "dropout": 0.0}, "classifier.6"),
    "alexnet_one_tower": ({"dropout": 0.0}, "classifier.6"),
    "resnet18": ({}, "fc"),
}


@pytest.fixture(scope="module")
def networks(peer, request):
    """`networks(trunk, crop)`: PyTorch's network, ours, and the weights of the first in ours."""

    def make(trunk: str, crop: int = 224):
        options, head = PEERS[trunk]
        if trunk == "alexnet":
            side = {224: 6, 96: 2}[crop]
            theirs = peer(published_alexnet, features=256 * side**2)
        else:
            name = trunk.removesuffix("_one_tower")
            torchvision = request.getfixturevalue("torchvision")
            theirs = peer(torchvision.models.get_model, name=name, num_classes=10)
        ours = models.model_from_spec({"name": trunk, **options}, ("expression",), num_classes=10)
        return theirs, ours, transplanted(theirs.state_dict(), head)

    return make


@pytest.mark.parametrize("trunk", PEERS)
def test_logits_equal_torch(trunk, networks, faces):
    theirs, ours, variables = networks(trunk)
    images = faces(2, 224)
    with torch.no_grad():
        expected = theirs(nchw(images)).numpy()
    logits = jax.jit(ours.apply)(variables, images)["expression"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 0.1, "the images make no difference"


@pytest.mark.parametrize("trunk", ["alexnet", "resnet18"])
def test_a_training_step_has_torchs_gradients_and_statistics(trunk, networks, faces):
    crop = 96 if trunk == "alexnet" else 64
    theirs, ours, variables = networks(trunk, crop)
    images, labels = faces(4, crop), np.array([0, 3, 3, 7])

    theirs.train()
    loss = torch.nn.functional.cross_entropy(theirs(nchw(images)), torch.tensor(labels))
    loss.backward()
    names = {name for name, _ in theirs.named_parameters()}
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    after = {name: t.numpy() for name, t in theirs.state_dict().items() if name not in names}
    head = PEERS[trunk][1]
    expected = transplanted({**gradients, **after}, head)

    def objective(params, images):
        outputs, updates = ours.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        rows = jax.nn.log_softmax(outputs["expression"])
        return -jnp.mean(rows[np.arange(4), labels]), updates

    step = jax.vmap(jax.value_and_grad(objective, has_aux=True), (None, 0), axis_name="batch")
    (ours_loss, updates), found = jax.tree.map(
        lambda x: x[0], jax.jit(step)(variables["params"], images[None])
    )
    np.testing.assert_allclose(ours_loss, loss.item(), rtol=1e-5)
    assert jax.tree.structure(found) == jax.tree.structure(expected["params"])
    for path, gradient in jax.tree_util.tree_leaves_with_path(found):
        reference = leaf_at(expected["params"], path)
        error = np.linalg.norm(gradient - reference) / np.linalg.norm(reference)
        assert error < 1e-3, f"{jax.tree_util.keystr(path)}: {error:.1e}"
    check_statistics(updates.get("batch_stats", {}), variables, expected, images.shape)


def check_statistics(found, variables, expected, shape):
    """Means equal PyTorch's; variances do, but for PyTorch's n / (n - 1) on the batch's share."""
    strides = {"stem": 2, "stage1": 4, "stage2": 8, "stage3": 16, "stage4": 32}
    for path, after in jax.tree_util.tree_leaves_with_path(found):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        reference = leaf_at(expected["batch_stats"], path)
        before = leaf_at(variables["batch_stats"], path)
        if name.endswith("var"):
            n = shape[0] * (shape[1] // strides[name.split(".")[1].split("_")[0]]) ** 2
            reference = 0.9 * before + (reference - 0.9 * before) * (n - 1) / n
        np.testing.assert_allclose(after, reference, rtol=1e-3, atol=1e-5, err_msg=name)
        assert np.abs(after - before).max() > 1e-3, f"{name} did not move"


def leaf_at(tree: Any, path: Any) -> Any:
    for key in path:
        tree = tree[key.key]
    return tree


@pytest.mark.parametrize("trunk", ["alexnet_one_tower", "resnet18"])
def test_initialisation_equals_torchvisions_in_distribution(trunk, torchvision):
    options = {"width": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = torchvision.models.get_model(trunk.removesuffix("_one_tower"), num_classes=100)
        if trunk == "alexnet_one_tower":  # narrower, for speed, and made as torchvision's own
            for i, shape in ((1, (9216, 64)), (4, (64, 64)), (6, (64, 100))):
                theirs.classifier[i] = torch.nn.Linear(*shape)
    expected = transplanted(theirs.state_dict(), PEERS[trunk][1])
    model = models.model_from_spec({"name": trunk, **options}, ("expression",), num_classes=100)
    found = dict(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 224, 224, 3))))
    found.setdefault("batch_stats", {})
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    random = np.random.default_rng(0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        ours, reference = np.asarray(leaf), leaf_at(expected, path)
        assert ours.shape == reference.shape, name
        if np.ptp(reference) == 0:
            np.testing.assert_array_equal(ours, reference, err_msg=name)
            continue
        a, b = (
            random.choice(values.ravel(), min(values.size, 20_000)) for values in (ours, reference)
        )
        assert stats.ks_2samp(a, b).pvalue > 1e-4, name


def test_published_initialisation_is_the_papers():
    """Krizhevsky et al. 2012, section 5: deviation 0.01; biases 1 in layers 2, 4, 5, 6 and 7."""
    model = models.model_from_spec({"name": "alexnet", "width": 256}, ("expression",))
    trunk = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 96, 96, 3)))["params"]["trunk"]
    layers = {f"conv{i}": trunk[f"conv{i}"]["conv"] for i in range(1, 6)} | trunk["classifier"]
    for i, (name, layer) in enumerate(sorted(layers.items()), start=1):
        np.testing.assert_array_equal(layer["bias"], 0 if i in (1, 3) else 1, err_msg=name)
        sample = np.ravel(layer["kernel"])[:20_000]
        assert stats.kstest(sample, stats.norm(0, 0.01).cdf).pvalue > 1e-4, name


def test_he_initialisation_has_its_variance():
    """He et al. 2015, equation 10: variance 2 / fan in, biases 0; in two towers half the inputs."""
    model = models.model_from_spec(
        {"name": "alexnet", "width": 256, "initialisation": "he"}, ("expression",)
    )
    trunk = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 96, 96, 3)))["params"]["trunk"]
    layers = {f"conv{i}": trunk[f"conv{i}"]["conv"] for i in range(1, 6)} | trunk["classifier"]
    for name, layer in layers.items():
        kernel = np.asarray(layer["kernel"])
        assert not np.any(layer["bias"]), name
        fan_in = np.prod(kernel.shape[:-1])
        np.testing.assert_allclose(kernel.var() * fan_in, 2, rtol=0.03, err_msg=name)
        assert abs(kernel.mean()) < 0.02 * kernel.std(), name
