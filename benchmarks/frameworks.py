"""The networks of the benchmarks in PyTorch and Keras, which affect_jax is compared with.

ResNet18 and the one-tower AlexNet are those of torchvision if it is installed, otherwise the same
layers defined here. The published AlexNet is defined here, because torchvision has none. They
follow PyTorch's tuning guide: channels last, autocast for bfloat16, `torch.compile` if requested,
TF32 for float32 products on a GPU (as in JAX), cuDNN's autotuning.

This module imports nothing of affect_jax, and PyTorch and Keras only when they are used.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

import numpy as np

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_LIBRARIES: list[Any] = []  # operators exist as long as the library object that defines them


@functools.cache
def torch() -> Any:
    """Imports PyTorch with the settings that make it fast."""
    import torch

    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    return torch


@functools.cache
def torchvision() -> Any:
    """Imports torchvision, without its compiled part if that is of another PyTorch build."""
    library = torch().library
    try:
        import torchvision
    except RuntimeError:  # "operator torchvision::nms does not exist": no network here needs it
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        operators = library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            operators.define(f"{operator}(Tensor a, Tensor b, float c) -> Tensor")
        _LIBRARIES.append(operators)
        import torchvision
    return torchvision


def trunk_spec(name: str, width: int | None) -> dict[str, Any]:
    """Returns the `trunk` of a config whose network equals that of `create_torch_network`."""
    return {"name": name} | ({"width": width} if width else {})


def torch_device() -> Any:
    """Returns the first GPU if there is one, otherwise the CPU."""
    return torch().device("cuda" if torch().cuda.is_available() else "cpu")


def synchronize() -> None:
    """Waits until the GPU has finished all work."""
    if torch_device().type == "cuda":
        torch().cuda.synchronize()


def create_torch_network(
    name: str, *, num_classes: int = 8, crop_size: int = 224, width: int | None = None
) -> Any:
    """Creates a network with random weights.

    **Arguments:**

    - `name`: its name in the registry of trunks.
    - `width`: of the fully connected layers of `alexnet`, instead of 4096.
    """
    if name == "alexnet":
        return create_published_alexnet(num_classes, crop_size, width or 4096)
    try:
        models = torchvision().models
    except ImportError:
        creators = {"alexnet_one_tower": create_one_tower_alexnet, "resnet18": create_resnet18}
        return creators[name](num_classes)
    creators = {"alexnet_one_tower": models.alexnet, "resnet18": models.resnet18}
    return creators[name](num_classes=num_classes)


def create_published_alexnet(num_classes: int, crop_size: int, width: int) -> Any:
    """AlexNet of Krizhevsky et al. 2012: two towers, response normalisation.

    PyTorch divides `alpha` by the window size, so its value here is five times that of the paper.
    """
    nn = torch().nn

    def convolution(*shape: int, **options: int) -> list[Any]:
        return [nn.Conv2d(*shape, **options), nn.ReLU(inplace=True)]

    def normalization() -> list[Any]:
        return [nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0), nn.MaxPool2d(3, 2)]

    side = (crop_size + 4 - 11) // 4 + 1
    for _ in range(3):  # three max poolings; the other convolutions keep the size
        side = (side - 3) // 2 + 1
    return nn.Sequential(
        *convolution(3, 96, 11, 4, 2), *normalization(),
        *convolution(96, 256, 5, 1, 2, groups=2), *normalization(),
        *convolution(256, 384, 3, 1, 1),
        *convolution(384, 384, 3, 1, 1, groups=2),
        *convolution(384, 256, 3, 1, 1, groups=2), nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(256 * side**2, width), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(width, width), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(width, num_classes),
    )  # fmt: skip


def create_one_tower_alexnet(num_classes: int) -> Any:
    """Defines the layers of torchvision's `alexnet`, for crops of 223 to 254 pixels."""
    nn = torch().nn
    layers = []
    shapes = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1),
            (256, 256, 3, 1, 1))  # fmt: skip
    for layer, shape in enumerate(shapes):
        layers += [nn.Conv2d(*shape), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(3, 2)] if layer in (0, 1, 4) else []
    return nn.Sequential(
        *layers, nn.Flatten(),
        nn.Dropout(), nn.Linear(256 * 36, 4096), nn.ReLU(inplace=True),
        nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True),
        nn.Linear(4096, num_classes),
    )  # fmt: skip


def create_resnet18(num_classes: int) -> Any:
    """Defines the layers of torchvision's `resnet18`."""
    nn = torch().nn

    def norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> Any:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int):
            super().__init__()
            self.first, self.second = norm(inputs, outputs, 3, stride), norm(outputs, outputs, 3)
            changes = stride != 1 or inputs != outputs
            self.shortcut = norm(inputs, outputs, 1, stride) if changes else nn.Identity()
            self.relu = nn.ReLU(inplace=True)

        def forward(self, values: Any) -> Any:
            shortcut = self.shortcut(values)
            return self.relu(self.second(self.relu(self.first(values))) + shortcut)

    sides = (64, 64, 128, 256, 512)
    blocks = []
    for stage in range(4):
        stride = 2 if stage else 1
        blocks.append(Block(sides[stage], sides[stage + 1], stride))
        blocks.append(Block(sides[stage + 1], sides[stage + 1], 1))
    return nn.Sequential(
        norm(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes),
    )  # fmt: skip


class TorchTrainer:
    """A PyTorch network on its device, with SGD, momentum 0.9 and weight decay 5e-4.

    **Arguments:**

    - `dtype`: `float32`, or `bfloat16` for autocast.
    - `compiled`: compile with `torch.compile` at the first call. PyTorch caches graphs by code,
      which networks share: a second batch size would get a graph with a dynamic shape, and the
      ninth case none. So this clears the cache; use one compiled trainer at a time.
    - `crop_size`, `width`: see `create_torch_network`.
    """

    def __init__(
        self,
        name: str,
        *,
        dtype: str,
        crop_size: int,
        compiled: bool = False,
        width: int | None = None,
    ):
        device = torch_device()
        network = create_torch_network(name, crop_size=crop_size, width=width)
        self.network = network.to(device)
        self.network = self.network.to(memory_format=torch().channels_last)
        self._forward = self.network
        if compiled:
            torch().compiler.reset()
            # The default mode; "reduce-overhead" (CUDA graphs) is not tested.
            self._forward = torch().compile(self.network)
        options = {"fused": True} if device.type == "cuda" else {}
        self.optimizer = torch().optim.SGD(
            self.network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, **options
        )
        self._autocast = functools.partial(
            torch().autocast, device.type, torch().bfloat16, enabled=dtype == "bfloat16"
        )

    def train_step(self, images: Any, labels: Any) -> Any:
        """Computes one update from a batch of `normalize_images` and labels int64 [B].

        **Returns:** the loss.
        """
        self.network.train()
        with self._autocast():
            logits = self._forward(images)
        loss = torch().nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def predict(self, images: Any) -> Any:
        """Returns probabilities [B, C]."""
        self.network.eval()
        with torch().inference_mode(), self._autocast():
            logits = self._forward(images)
        return logits.float().softmax(dim=1)


def normalize_images(images: Any) -> Any:
    """Converts images uint8 [B, c, c, 3] to float32 [B, 3, c, c], channels last."""
    device = torch_device()
    values = torch().as_tensor(images).to(device, non_blocking=True).permute(0, 3, 1, 2).float()
    mean, std = (
        torch().tensor(channels, device=device).view(1, 3, 1, 1) * 255
        for channels in (IMAGENET_MEAN, IMAGENET_STD)
    )
    values = (values - mean) / std
    return values.contiguous(memory_format=torch().channels_last)


def keras() -> Any:
    """Imports Keras 3 with the JAX backend, which it reads from the environment on import."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    if keras.backend.backend() != "jax":
        raise RuntimeError("Keras is already imported with another backend; set KERAS_BACKEND=jax")
    return keras


def create_keras_resnet18(*, dtype: str, crop_size: int, num_classes: int = 8) -> Any:
    """Builds ResNet18 from Keras layers, compiled with the same optimizer and loss."""
    layers = keras().layers
    keras().config.set_dtype_policy("mixed_bfloat16" if dtype == "bfloat16" else "float32")

    def norm(values: Any, outputs: int, kernel: int, stride: int = 1) -> Any:
        values = layers.ZeroPadding2D(kernel // 2)(values) if kernel > 1 else values
        values = layers.Conv2D(outputs, kernel, stride, use_bias=False)(values)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(values)

    images = keras().Input((crop_size, crop_size, 3))
    values = layers.ReLU()(norm(images, 64, 7, 2))
    values = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(values))
    for stage in range(4):
        for block in range(2):
            outputs, stride = 64 * 2**stage, 2 if stage and not block else 1
            shortcut = values
            values = layers.ReLU()(norm(values, outputs, 3, stride))
            values = norm(values, outputs, 3)
            if stage and not block:
                shortcut = norm(shortcut, outputs, 1, stride)
            values = layers.ReLU()(layers.Add()([values, shortcut]))
    values = layers.GlobalAveragePooling2D()(values)
    model = keras().Model(images, layers.Dense(num_classes, dtype="float32")(values))
    model.compile(
        keras().optimizers.SGD(0.01, momentum=0.9, weight_decay=5e-4),
        keras().losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    return model


def normalize_arrays(images: np.ndarray) -> np.ndarray:
    """Converts images uint8 [B, c, c, 3] to normalised float32 of the same shape."""
    mean, std = 255 * np.array(IMAGENET_MEAN, np.float32), 255 * np.array(IMAGENET_STD, np.float32)
    return (images - mean) / std
