"""ResNets equal those of torchvision and timm with the same weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect_jax import models
from affect_jax.models import resnet, weight_files, weight_mapping

torch = pytest.importorskip("torch")
parity = pytest.importorskip("tests.models.torch_parity")


def create_resnet(module, blocks, bottleneck: bool):
    """timm's or torchvision's network of one of the two kinds of blocks, without its head."""
    block = module.Bottleneck if bottleneck else module.BasicBlock
    network = module.ResNet(block, list(blocks))
    network.fc = torch.nn.Identity()
    return network


def test_bottleneck_resnet_equals_torchvision(torchvision, monkeypatch):
    blocks = (1, 1, 1, 1)
    monkeypatch.setattr(resnet.ResNet50, "BLOCKS", blocks)
    network = create_resnet(torchvision.models.resnet, blocks, bottleneck=True)
    parity.assert_equal(network, {"name": "resnet50"}, crop=32)


@pytest.mark.slow
@pytest.mark.parametrize(("library", "name"), [("torchvision", "resnet34"), ("timm", "resnet50")])
def test_deep_resnets_equal_torch(library, name, request):
    module = request.getfixturevalue(library).models.resnet
    network = create_resnet(module, (3, 4, 6, 3), bottleneck=name == "resnet50")
    # PyTorch's own gradients differ by 7e-3 (resnet34) and 5e-2 (resnet50) from those in float64.
    parity.assert_equal(network, {"name": name}, crop=64, gradient_tolerance=0.15)


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint_of_data_parallel_training_is_loaded(timm, tmp_path, zipped):
    """The wrappers of the checkpoint of MS-Celeb-1M that DAN and RUL start from."""
    network = create_resnet(timm.models.resnet, (2, 2, 2, 2), bottleneck=False)
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    state["module.fc.weight"] = torch.zeros(20, 512)
    checkpoint = {"epoch": 3, "best_prec1": 0.9, "state_dict": state}
    torch.save(checkpoint, tmp_path / "r18.pth", _use_new_zipfile_serialization=zipped)
    arrays = weight_files.read(str(tmp_path / "r18.pth"))
    model = models.model_from_spec({"name": "resnet18"}, ("expression",))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    params, _, report = weight_mapping.load(
        arrays, shapes["params"], shapes["batch_stats"], trunk="resnet18", source="r18.pth"
    )
    assert report.unused == ("fc.weight",) and len(report.initialised) == 2
    np.testing.assert_array_equal(
        params["trunk"]["stem"]["norm"]["scale"], network.bn1.weight.detach()
    )
