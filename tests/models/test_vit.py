"""Vision transformers equal timm's with the same weights; positions fit other crops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect_jax import models
from affect_jax.models import weight_files, weight_mapping
from tests.models.conftest import randomize_values

torch = pytest.importorskip("torch")
parity = pytest.importorskip("tests.models.torch_parity")


def create_vit(timm, crop: int, **options):
    """timm's small ViT without its head."""
    options = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0, **options}
    return timm.create_model("vit_small_patch16_224", img_size=crop, **options)


VIT = {"width": 32, "depth": 2, "heads": 2}


@pytest.mark.parametrize(
    ("pooling", "timm_pooling", "input_range"),
    [("token", "token", "imagenet"), ("mean", "avg", "signed")],
)
def test_vit_equals_timm(pooling, timm_pooling, input_range, timm):
    network = create_vit(timm, 48, global_pool=timm_pooling)
    spec = {"name": "vit_small", **VIT, "pooling": pooling, "input_range": input_range}
    convert = {"imagenet": lambda images: images, "signed": parity.to_signed}[input_range]
    parity.assert_equal(network, spec, 48, convert)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "base"])
def test_whole_vit_equals_timm(size, timm):
    network = timm.create_model(f"vit_{size}_patch16_224", img_size=64, num_classes=0)
    parity.assert_equal(network, {"name": f"vit_{size}"}, crop=64)


def load_vit(arrays, crop: int, **options):
    spec = {"name": "vit_small", **VIT, **options}
    model = models.model_from_spec(spec, ("expression",), num_classes=5)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, crop, crop, 3)))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 7, leaf.dtype), shapes["params"])
    return weight_mapping.load(arrays, params, {}, trunk="vit_small", source="w.pth")


def to_arrays(network) -> dict[str, np.ndarray]:
    randomize_values(network, seed=1)
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("crop", [32, 96])
def test_positions_are_interpolated_like_timm(crop, timm):
    arrays = to_arrays(create_vit(timm, 64))
    expected = timm.layers.resample_abs_pos_embed(
        torch.tensor(arrays["pos_embed"]), (crop // 16, crop // 16)
    )
    params, _, _ = load_vit(arrays, crop)
    positions = params["trunk"]["pos_embed"]
    np.testing.assert_allclose(positions, expected, rtol=1e-4, atol=1e-5)
    run = weight_mapping.flatten_by_name(load_vit(arrays, 64)[0], {})
    resized, _, report = load_vit(run, crop)  # weights of a run are interpolated too
    np.testing.assert_array_equal(resized["trunk"]["pos_embed"], positions)
    assert not report.initialised and not report.unused


def test_mean_pooling_of_an_encoder_starts_with_a_fresh_normalisation(timm):
    """MAE's pretraining has the class token's normalisation, and a decoder in full checkpoints."""
    arrays = to_arrays(create_vit(timm, 64))
    decoder = {"mask_token": np.zeros((1, 1, 8)), "decoder_embed.weight": np.zeros((8, 32))}
    params, _, report = load_vit({**arrays, **decoder}, 64, pooling="mean")
    assert sorted(report.initialised) == [
        *(f"params.expression.{leaf}" for leaf in ("bias", "kernel")),
        *(f"params.trunk.fc_norm.{leaf}" for leaf in ("bias", "scale")),
    ]
    assert set(report.unused) == {"norm.weight", "norm.bias", *decoder}
    np.testing.assert_array_equal(params["trunk"]["fc_norm"]["scale"], 7)
    _, _, report = load_vit({**arrays, **decoder}, 64)
    assert set(report.unused) == set(decoder)


def test_whole_checkpoints_of_dino_are_read(timm, tmp_path):
    """They hold the teacher, which DINO evaluates, the student and their projection heads."""
    arrays = to_arrays(create_vit(timm, 64))
    backbone = {f"backbone.{name}": torch.tensor(array) for name, array in arrays.items()}
    teacher = {**backbone, "head.mlp.0.weight": torch.zeros(8, 32)}
    student = {f"module.{name}": torch.zeros_like(tensor) for name, tensor in backbone.items()}
    torch.save({"student": student, "teacher": teacher, "epoch": 3}, tmp_path / "dino.pth")
    params, _, report = load_vit(weight_files.read(str(tmp_path / "dino.pth")), 64)
    np.testing.assert_array_equal(params["trunk"]["cls_token"], arrays["cls_token"])
    assert report.unused == ("head.mlp.0.weight",)
    assert {name.split(".")[1] for name in report.initialised} == {"expression"}
