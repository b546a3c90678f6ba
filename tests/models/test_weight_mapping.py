"""Loading weights of torchvision, timm and this package: equal logits, errors for mismatches."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from affect_jax import models
from affect_jax.core.errors import UserError
from affect_jax.models import base, weight_files, weight_mapping

torch = pytest.importorskip("torch")


@functools.cache
def create_zero_model(
    trunk: str, *, crop: int = 224, heads=("expression",), classes: int = 10, **options
):
    """A model and its variables set to zero, as all values are to be replaced."""
    model = models.model_from_spec({"name": trunk, **options}, heads, num_classes=classes)
    images = jax.ShapeDtypeStruct((1, crop, crop, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), dict(shapes))
    return model, variables["params"], variables.get("batch_stats", {})


def load_weights(arrays, trunk: str, **options):
    model, params, batch_stats = create_zero_model(trunk, **options)
    return model, *weight_mapping.load(arrays, params, batch_stats, trunk=trunk, source="w.pth")


@functools.cache
def compile_logits(model):
    return jax.jit(lambda variables, images: model.apply(variables, images)["expression"])


@pytest.fixture(scope="module")
def torch_model(torch_network, request):
    """`torch_model("timm resnet18")`: a PyTorch network with random weights for 10 classes."""

    @functools.cache
    def create_network(name: str, classes: int = 10):
        library, network = name.split()
        module = request.getfixturevalue(library)
        create = module.create_model if library == "timm" else module.models.get_model
        name_argument = {"model_name" if library == "timm" else "name": network}
        return torch_network(create, seed=len(library), num_classes=classes, **name_argument)

    return create_network


def to_arrays(network) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


@pytest.fixture
def zero_arrays(request):
    """`zero_arrays("timm resnet18")`: zeros with names and shapes of a network for 10 classes."""

    def create_arrays(name: str) -> dict[str, np.ndarray]:
        library, network = name.split()
        module = request.getfixturevalue(library)
        create = module.create_model if library == "timm" else module.models.get_model
        with torch.device("meta"):
            shapes = create(network, num_classes=10).state_dict()
        return {name: np.zeros(tensor.shape, np.float32) for name, tensor in shapes.items()}

    return create_arrays


@pytest.mark.parametrize(
    ("name", "trunk", "crop", "suffix"),
    [
        pytest.param("torchvision resnet18", "resnet18", 64, ".pth", marks=pytest.mark.slow),
        ("timm resnet18", "resnet18", 64, ".safetensors"),
        pytest.param(
            "torchvision alexnet", "alexnet_one_tower", 224, ".pth", marks=pytest.mark.slow
        ),
    ],
)
def test_logits_equal_the_original_network(tmp_path, torch_model, faces, name, trunk, crop, suffix):
    network, path = torch_model(name), tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(network.state_dict(), path)
    else:
        from safetensors.torch import save_file

        save_file(network.state_dict(), path)
    arrays = weight_files.read(str(path))
    path.unlink()  # 240 MB
    model, params, batch_stats, report = load_weights(arrays, trunk, crop=crop)
    images = faces(2, crop)
    with torch.no_grad():
        expected = network(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    variables = {"params": params, "batch_stats": batch_stats}
    logits = compile_logits(model)(variables, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 0.1, "the images make no difference"
    assert report.initialised == report.unused == ()
    used_names = {n for n in network.state_dict() if not n.endswith("num_batches_tracked")}
    assert set(report.loaded.values()) == used_names


def test_every_torch_mapping_is_tested():
    """Those of the newer trunks are tested in their own files."""
    own_files = {"resnet34", "resnet50", "iresnet50", "vit_small", "vit_base"}
    own_files |= {"efficientnet_b0", "efficientnet_b2", "convnext_tiny"}
    assert set(base.TORCH_MAPPINGS) == {"alexnet_one_tower", "resnet18", *own_files}


def test_head_with_other_number_of_classes_keeps_initial_values(torch_model):
    arrays = to_arrays(torch_model("torchvision resnet18"))
    heads = ("expression", "valence_arousal")
    _, params, batch_stats = create_zero_model("resnet18", classes=8, heads=heads)
    params = jax.tree.map(lambda leaf: leaf + 7, params)
    loaded, batch_stats_loaded, report = weight_mapping.load(
        arrays, params, batch_stats, trunk="resnet18", source="w.pth"
    )
    for head in heads:
        for leaf in loaded[head].values():
            np.testing.assert_array_equal(leaf, 7)
    assert sorted(report.initialised) == [
        f"params.{head}.{leaf}" for head in heads for leaf in ("bias", "kernel")
    ]
    assert sorted(report.unused) == ["fc.bias", "fc.weight"]
    np.testing.assert_array_equal(loaded["trunk"]["stem"]["norm"]["scale"], arrays["bn1.weight"])
    np.testing.assert_array_equal(
        batch_stats_loaded["trunk"]["stem"]["norm"]["var"], arrays["bn1.running_var"]
    )
    # the arguments are not modified
    assert all((leaf == 7).all() for leaf in jax.tree.leaves(params))


def test_classifier_is_optional(torch_model):
    arrays = to_arrays(torch_model("timm resnet18"))
    del arrays["fc.weight"], arrays["fc.bias"]
    *_, report = load_weights(arrays, "resnet18")
    assert sorted(report.initialised) == ["params.expression.bias", "params.expression.kernel"]
    assert report.unused == ()


def test_head_is_loaded_completely_or_not_at_all(torch_model):
    arrays = to_arrays(torch_model("torchvision resnet18"))
    arrays["fc.bias"] = arrays["fc.bias"][:5]
    *_, report = load_weights(arrays, "resnet18")
    assert sorted(report.initialised) == ["params.expression.bias", "params.expression.kernel"]
    assert sorted(report.unused) == ["fc.bias", "fc.weight"]


def test_report_names_what_was_not_loaded(torch_model):
    arrays = to_arrays(torch_model("torchvision resnet18"))
    *_, report = load_weights(arrays, "resnet18")
    assert report.describe() == "Weights of w.pth: 102 arrays loaded"
    *_, report = load_weights(arrays, "resnet18", classes=8)
    assert report.describe() == (
        "Weights of w.pth: 100 arrays loaded; with initial values: params.expression.bias, "
        "params.expression.kernel; not used: fc.weight, fc.bias"
    )


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_other_dtypes_are_converted_to_float32(torch_model, dtype):
    exact = to_arrays(torch_model("torchvision resnet18"))
    rounded = {name: array.astype(jnp.dtype(dtype)) for name, array in exact.items()}
    _, params, batch_stats, _ = load_weights(rounded, "resnet18")
    assert {leaf.dtype for leaf in jax.tree.leaves((params, batch_stats))} == {np.dtype("float32")}
    np.testing.assert_array_equal(
        params["trunk"]["stem"]["norm"]["scale"], rounded["bn1.weight"].astype(np.float32)
    )


def test_own_weights_are_restored_with_every_matching_head(tmp_path):
    random = np.random.default_rng(0)
    heads = ("expression", "valence_arousal")
    for trunk in ("alexnet", "resnet18"):
        _, *zeros = create_zero_model(trunk, heads=heads, width=8)
        params, stats = jax.tree.map(
            lambda leaf: random.normal(size=leaf.shape).astype(np.float32), tuple(zeros)
        )
        path = tmp_path / f"{trunk}.safetensors"
        safetensors.numpy.save_file(weight_mapping.flatten_by_name(params, stats), path)
        arrays = weight_files.read(str(path))
        _, loaded, loaded_stats, report = load_weights(arrays, trunk, heads=heads, width=8)
        for a, b in zip(
            *map(jax.tree.leaves, ((params, stats), (loaded, loaded_stats))), strict=True
        ):
            np.testing.assert_array_equal(a, b)
        assert report.initialised == report.unused == ()
        _, loaded, _, report = load_weights(arrays, trunk, heads=("valence_arousal",), width=8)
        np.testing.assert_array_equal(
            loaded["valence_arousal"]["kernel"], params["valence_arousal"]["kernel"]
        )
        assert sorted(report.unused) == ["params.expression.bias", "params.expression.kernel"]
        other_trunk = {"alexnet": "resnet18", "resnet18": "alexnet"}[trunk]
        with pytest.raises(UserError, match=f"does not match trunk '{other_trunk}'"):
            load_weights(arrays, other_trunk, heads=heads, width=8)


def get_mismatch(arrays, trunk: str, **options) -> str:
    with pytest.raises(UserError) as error:
        load_weights(arrays, trunk, **options)
    text = str(error.value)
    assert text.startswith("init_from = 'w.pth': ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision resnet34", "layer1.2.conv1.weight: not in the model"),
        ("torchvision resnet50", "must be [3, 3, 512, 512] as params.trunk.stage4_block2"),
        ("timm resnet18d", "must be [7, 7, 3, 64] as params.trunk.stem.conv.kernel, is"),
        ("torchvision alexnet", "bn1.weight: must be [64] as params.trunk.stem.norm.scale, is"),
    ],
)
def test_other_architectures_are_rejected(zero_arrays, name, message):
    text = get_mismatch(zero_arrays(name), "resnet18")
    assert "does not match trunk 'resnet18' (torchvision's and timm's ResNet18" in text
    assert message in text


def test_error_for_alexnet_names_the_one_tower_variant(zero_arrays):
    with pytest.raises(UserError, match="do not match trunk 'alexnet', only .*alexnet_one_tower"):
        load_weights(zero_arrays("torchvision alexnet"), "alexnet")


@pytest.mark.parametrize("options", [{"crop": 222}, {"crop": 255}, {"width": 512}])
def test_error_for_alexnet_names_compatible_options(zero_arrays, options):
    text = get_mismatch(zero_arrays("torchvision alexnet"), "alexnet_one_tower", **options)
    assert "fits trunk.width = 4096 and data.crop_size = 223 to 254" in text


@pytest.mark.parametrize("crop", [223, 254])
def test_alexnet_weights_load_with_compatible_options(zero_arrays, crop):
    arrays = zero_arrays("torchvision alexnet")
    *_, report = load_weights(arrays, "alexnet_one_tower", crop=crop)
    assert len(report.loaded) == 2 * 8  # kernel and bias of every layer


def test_error_for_resnet_names_compatible_width(zero_arrays):
    assert "fit trunk.width = 64" in get_mismatch(
        zero_arrays("timm resnet18"), "resnet18", width=32
    )


def replace_array(arrays, name: str, change):
    return {**arrays, name: change(arrays[name])}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("conv1.weight", lambda a: a * np.nan, "conv1.weight has values that are not finite"),
        ("bn1.running_var", lambda a: a.astype(np.float64) * 1e300, "bn1.running_var has"),
        ("layer1.0.bn1.bias", lambda a: a[:5], r"bn1.bias: must be \[64\] as .*bias, is \[5\]"),
    ],
)
def test_invalid_values_are_rejected(torch_model, name, change, message):
    arrays = to_arrays(torch_model("torchvision resnet18"))
    with pytest.raises(UserError, match=message):
        load_weights(replace_array(arrays, name, change), "resnet18")


@pytest.mark.parametrize("shape", [(), (0,), (0, 0), (3, 0), (0, 256), (5, 300), (1, 256, 1)])
def test_arrays_of_impossible_shapes_are_rejected(shape):
    arrays = {name: np.ones(shape) for name in ("features.0.weight", "classifier.1.weight")}
    assert "does not match" in get_mismatch(arrays, "alexnet_one_tower")


@pytest.mark.parametrize("name", ["", "a", "params.a", "params.trunk.stem.conv.kernel"])
@pytest.mark.parametrize("trunk", ["resnet18", "alexnet_one_tower"])
def test_unrelated_files_are_rejected(name, trunk):
    arrays = {name: np.ones(2)} if name else {}
    assert f"does not match trunk '{trunk}'" in get_mismatch(arrays, trunk)
