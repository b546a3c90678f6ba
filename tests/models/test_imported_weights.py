"""Weights of torchvision, timm and ourselves in our networks: logits equal, misfits told."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from affect_jax import models
from affect_jax.core.errors import UserError
from affect_jax.models import base, imported_weights, weight_files

torch = pytest.importorskip("torch")


@functools.cache
def initial(trunk: str, *, crop: int = 224, heads=("expression",), classes: int = 10, **options):
    """A model and its variables, zeros: values do not matter where all are to be replaced."""
    model = models.model_from_spec({"name": trunk, **options}, heads, num_classes=classes)
    images = jax.ShapeDtypeStruct((1, crop, crop, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), dict(shapes))
    return model, variables["params"], variables.get("batch_stats", {})


def load(arrays, trunk: str, **options):
    model, params, batch_stats = initial(trunk, **options)
    return model, *imported_weights.load(arrays, params, batch_stats, trunk=trunk, source="w.pth")


@functools.cache
def logits_of(model):
    return jax.jit(lambda variables, images: model.apply(variables, images)["expression"])


@pytest.fixture(scope="module")
def theirs(peer, request):
    """`theirs("timm resnet18")`: a network of PyTorch with random weights, for 10 classes."""

    @functools.cache
    def make(name: str, classes: int = 10):
        library, network = name.split()
        module = request.getfixturevalue(library)
        create = module.create_model if library == "timm" else module.models.get_model
        argument = {"model_name" if library == "timm" else "name": network}
        return peer(create, seed=len(library), num_classes=classes, **argument)

    return make


def arrays_of(network) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("name", "trunk"),
    [
        ("torchvision alexnet", "alexnet_one_tower"),
        ("torchvision resnet18", "resnet18"),
        ("timm resnet18", "resnet18"),
    ],
)
def test_logits_equal_the_originals(tmp_path, theirs, faces, name, trunk, suffix):
    network, path = theirs(name), tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(network.state_dict(), path)
    else:
        from safetensors.torch import save_file

        save_file(network.state_dict(), path)
    arrays = weight_files.read(str(path))
    path.unlink()  # 240 MB
    model, params, batch_stats, report = load(arrays, trunk)
    images = faces(2, 224)
    with torch.no_grad():
        expected = network(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    variables = {"params": params, "batch_stats": batch_stats}
    found = logits_of(model)(variables, images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 0.1, "the images make no difference"
    assert report.fresh == report.unmatched == ()
    used = {n for n in network.state_dict() if not n.endswith("num_batches_tracked")}
    assert set(report.loaded.values()) == used


def test_every_trunk_with_a_peer_is_tested_here():
    assert set(base.PEERS) == {"alexnet_one_tower", "resnet18"}


def test_heads_of_other_classes_stay_fresh(theirs):
    arrays = arrays_of(theirs("torchvision resnet18"))
    heads = ("expression", "valence_arousal")
    _, params, batch_stats = initial("resnet18", classes=8, heads=heads)
    params = jax.tree.map(lambda leaf: leaf + 7, params)
    found, stats, report = imported_weights.load(
        arrays, params, batch_stats, trunk="resnet18", source="w.pth"
    )
    for head in heads:
        for leaf in found[head].values():
            np.testing.assert_array_equal(leaf, 7)
    assert sorted(report.fresh) == [
        f"params.{head}.{leaf}" for head in heads for leaf in ("bias", "kernel")
    ]
    assert sorted(report.unmatched) == ["fc.bias", "fc.weight"]
    np.testing.assert_array_equal(found["trunk"]["stem"]["norm"]["scale"], arrays["bn1.weight"])
    np.testing.assert_array_equal(stats["trunk"]["stem"]["norm"]["var"], arrays["bn1.running_var"])
    # what was given is as it was
    assert all((leaf == 7).all() for leaf in jax.tree.leaves(params))


def test_a_file_without_a_classifier_is_enough(theirs):
    arrays = arrays_of(theirs("timm resnet18"))
    del arrays["fc.weight"], arrays["fc.bias"]
    *_, report = load(arrays, "resnet18")
    assert sorted(report.fresh) == ["params.expression.bias", "params.expression.kernel"]
    assert report.unmatched == ()


def test_a_head_is_taken_whole_or_not_at_all(theirs):
    arrays = arrays_of(theirs("torchvision resnet18"))
    arrays["fc.bias"] = arrays["fc.bias"][:5]
    *_, report = load(arrays, "resnet18")
    assert sorted(report.fresh) == ["params.expression.bias", "params.expression.kernel"]
    assert sorted(report.unmatched) == ["fc.bias", "fc.weight"]


def test_the_table_counts_every_number(theirs):
    arrays = arrays_of(theirs("torchvision resnet18"))
    *_, report = load(arrays, "resnet18", classes=8)
    assert report.table().startswith("Weights of w.pth:\n")
    lines = [line.split() for line in report.table().splitlines()[3:]]
    assert lines[0] == ["trunk.stem", "5", "9,664", "conv1,", "bn1"]
    assert lines[1] == ["trunk.stage1_block1", "10", "74,240", "layer1.0"]
    assert lines[-2] == ["expression", "2", "4,104", "fresh"]
    assert lines[-1] == ["(none)", "2", "5,130", "fc,", "not", "used"]
    numbers = [int(line[2].replace(",", "")) for line in lines[:-1]]
    statistics = 2 * 4_800
    assert sum(numbers) == 11_689_512 - 1000 * 513 + 8 * 513 + statistics


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_other_number_types_become_float32(theirs, dtype):
    exact = arrays_of(theirs("torchvision resnet18"))
    rounded = {name: array.astype(jnp.dtype(dtype)) for name, array in exact.items()}
    _, params, batch_stats, _ = load(rounded, "resnet18")
    assert {leaf.dtype for leaf in jax.tree.leaves((params, batch_stats))} == {np.dtype("float32")}
    np.testing.assert_array_equal(
        params["trunk"]["stem"]["norm"]["scale"], rounded["bn1.weight"].astype(np.float32)
    )


def test_our_own_weights_come_back_with_every_head_that_fits(tmp_path):
    random = np.random.default_rng(0)
    heads = ("expression", "valence_arousal")
    for trunk in ("alexnet", "resnet18"):
        _, *trees = initial(trunk, heads=heads, width=8)
        params, stats = jax.tree.map(
            lambda leaf: random.normal(size=leaf.shape).astype(np.float32), tuple(trees)
        )
        path = tmp_path / f"{trunk}.safetensors"
        safetensors.numpy.save_file(imported_weights.named(params, stats), path)
        arrays = weight_files.read(str(path))
        _, found, found_stats, report = load(arrays, trunk, heads=heads, width=8)
        for a, b in zip(
            *map(jax.tree.leaves, ((params, stats), (found, found_stats))), strict=True
        ):
            np.testing.assert_array_equal(a, b)
        assert report.fresh == report.unmatched == ()
        _, found, _, report = load(arrays, trunk, heads=("valence_arousal",), width=8)
        np.testing.assert_array_equal(
            found["valence_arousal"]["kernel"], params["valence_arousal"]["kernel"]
        )
        assert sorted(report.unmatched) == ["params.expression.bias", "params.expression.kernel"]
        assert "expression, not used" in report.table()
        other = {"alexnet": "resnet18", "resnet18": "alexnet"}[trunk]
        with pytest.raises(UserError, match=f"not of trunk '{other}'"):
            load(arrays, other, heads=heads, width=8)


def misfit(arrays, trunk: str, **options) -> str:
    with pytest.raises(UserError) as error:
        load(arrays, trunk, **options)
    text = str(error.value)
    assert text.startswith("init_from = 'w.pth': ")
    assert len(text.splitlines()) <= 2 + imported_weights.SHOWN
    return text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision resnet34", "layer1.2.conv1.weight: the model has no place for it"),
        ("torchvision resnet50", "is [64, 64, 1, 1]; trunk.stage1_block1.layer1.conv.kernel is"),
        ("timm resnet18d", "layer2.0.downsample.0.weight: not in the file; trunk.stage2_block1."),
        ("torchvision alexnet", "it looks like torchvision's AlexNet, which is trunk.name = "),
        ("torchvision squeezenet1_0", "not in the file"),
    ],
)
def test_another_architecture_is_told(theirs, name, message):
    text = misfit(arrays_of(theirs(name)), "resnet18")
    assert "not of trunk 'resnet18' (torchvision's and timm's ResNet18" in text
    assert message in text


def test_the_published_alexnet_names_the_variant_that_has_weights(theirs):
    text = misfit(arrays_of(theirs("torchvision alexnet")), "alexnet")
    assert "which is trunk.name = 'alexnet_one_tower'" in text


@pytest.mark.parametrize("options", [{"crop": 96}, {"crop": 222}, {"crop": 255}, {"width": 512}])
def test_alexnets_weights_say_which_options_they_fit(theirs, options):
    text = misfit(arrays_of(theirs("torchvision alexnet")), "alexnet_one_tower", **options)
    assert "they fit trunk.width = 4096 and data.crop_size = 223 to 254" in text


@pytest.mark.parametrize("crop", [223, 254])
def test_alexnets_weights_fit_where_it_is_said(theirs, crop):
    arrays = arrays_of(theirs("torchvision alexnet"))
    *_, report = load(arrays, "alexnet_one_tower", crop=crop)
    trunk = [name for name in report.loaded if ".trunk." in f".{name}"]
    assert len(trunk) == 2 * 7  # kernel and bias of every layer but the head


def test_resnets_weights_say_which_width_they_fit(theirs):
    assert "they fit trunk.width = 64" in misfit(
        arrays_of(theirs("timm resnet18")), "resnet18", width=32
    )


def changed(arrays, name: str, change):
    return {**arrays, name: change(arrays[name])}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("conv1.weight", lambda a: a * np.nan, "trunk.stem.conv.kernel has values that are not"),
        ("bn1.running_var", lambda a: a.astype(np.float64) * 1e300, "trunk.stem.norm.var has"),
        ("bn1.weight", lambda a: a.astype(np.int64), "bn1.weight holds int64, not real numbers"),
        ("layer1.0.bn1.bias", lambda a: a[:, None], r"bn1.bias is \[64, 1\]; trunk.stage1_block1"),
        ("layer1.0.bn1.bias", lambda a: a[:5], r"is \[64\] here"),
    ],
)
def test_damaged_values_are_told(theirs, name, change, message):
    arrays = arrays_of(theirs("torchvision resnet18"))
    with pytest.raises(UserError, match=message):
        load(changed(arrays, name, change), "resnet18")


def test_a_file_of_anything_else_is_told():
    misfit({}, "resnet18")
    misfit({"a": np.ones(2)}, "alexnet_one_tower")
    misfit({"params.a": np.ones(2)}, "resnet18")
    misfit({"params.trunk.stem.conv.kernel": np.ones(2)}, "resnet18")
