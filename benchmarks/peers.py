"""The same networks, trained and applied by PyTorch and by Keras: the other side of benchmarks.

PyTorch's ResNet18 and one-tower AlexNet are torchvision's own where that is installed, else the
same layers written out here; the published AlexNet is written out, as torchvision has none. They
run as PyTorch's tuning guide has it: channels last, autocast for bfloat16, `torch.compile` where
asked for, TF32 for float32 products on a GPU (JAX takes it too), cuDNN's own search.

Nothing of affect_jax is imported here, and PyTorch only when it is asked for.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

import numpy as np

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
_KEPT: list[Any] = []  # libraries of operators live as long as the object that declared them


@functools.cache
def torch() -> Any:
    """PyTorch with the settings that make it fast."""
    import torch

    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    return torch


@functools.cache
def torchvision() -> Any:
    """torchvision; its Python part alone where its compiled part is of another PyTorch's build."""
    library = torch().library
    try:
        import torchvision
    except RuntimeError:  # "operator torchvision::nms does not exist": no network here needs it
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        declared = library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            declared.define(f"{operator}(Tensor a, Tensor b, float c) -> Tensor")
        _KEPT.append(declared)
        import torchvision
    return torchvision


def trunk(name: str, width: int | None) -> dict[str, Any]:
    """The spec of our network that `network` has a peer for."""
    return {"name": name} | ({"width": width} if width else {})


def device() -> Any:
    return torch().device("cuda" if torch().cuda.is_available() else "cpu")


def synchronize() -> None:
    """Waits until the card has done what it was given."""
    if device().type == "cuda":
        torch().cuda.synchronize()


def network(
    name: str, *, num_classes: int = 8, crop_size: int = 224, width: int | None = None
) -> Any:
    """**Arguments:**

    - `name`: as in the registry of trunks.
    - `width`: of the fully connected layers of `alexnet`, instead of 4096.
    """
    if name == "alexnet":
        return published_alexnet(num_classes, crop_size, width or 4096)
    try:
        models = torchvision().models
    except ImportError:
        written = {"alexnet_one_tower": one_tower_alexnet, "resnet18": resnet18}
        return written[name](num_classes)
    known = {"alexnet_one_tower": models.alexnet, "resnet18": models.resnet18}
    return known[name](num_classes=num_classes)


def published_alexnet(num_classes: int, crop_size: int, width: int) -> Any:
    """Krizhevsky et al. 2012: two towers, response normalisation (PyTorch divides its alpha)."""
    nn = torch().nn

    def convolution(*shape: int, **options: int) -> list[Any]:
        return [nn.Conv2d(*shape, **options), nn.ReLU(inplace=True)]

    def normalised() -> list[Any]:
        return [nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0), nn.MaxPool2d(3, 2)]

    side = (crop_size + 4 - 11) // 4 + 1
    for _ in range(3):  # the other convolutions keep the side, three poolings of 3/2 do not
        side = (side - 3) // 2 + 1
    return nn.Sequential(
        *convolution(3, 96, 11, 4, 2), *normalised(),
        *convolution(96, 256, 5, 1, 2, groups=2), *normalised(),
        *convolution(256, 384, 3, 1, 1),
        *convolution(384, 384, 3, 1, 1, groups=2),
        *convolution(384, 256, 3, 1, 1, groups=2), nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(256 * side**2, width), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(width, width), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(width, num_classes),
    )  # fmt: skip


def one_tower_alexnet(num_classes: int) -> Any:
    """The layers of torchvision's `alexnet`, for crops of 223 to 254 pixels."""
    nn = torch().nn
    layers = []
    plan = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1),
            (256, 256, 3, 1, 1))  # fmt: skip
    for place, shape in enumerate(plan):
        layers += [nn.Conv2d(*shape), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(3, 2)] if place in (0, 1, 4) else []
    return nn.Sequential(
        *layers, nn.Flatten(),
        nn.Dropout(), nn.Linear(256 * 36, 4096), nn.ReLU(inplace=True),
        nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True),
        nn.Linear(4096, num_classes),
    )  # fmt: skip


def resnet18(num_classes: int) -> Any:
    """The layers of torchvision's `resnet18`."""
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
            kept = self.shortcut(values)
            return self.relu(self.second(self.relu(self.first(values))) + kept)

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


class Side:
    """A network in PyTorch on its device, with SGD of momentum 0.9 and weight decay 5e-4.

    **Arguments:**

    - `dtype`: `float32`, or `bfloat16` for autocast.
    - `compiled`: by `torch.compile`, at the first call. PyTorch keeps graphs by code, which
      networks share: the next batch size would get one of any size, the ninth case none. So what
      was compiled before is forgotten, and such sides are measured one after the other.
    - `crop_size`, `width`: see `network`.
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
        place = torch().device(device())
        self.network = network(name, crop_size=crop_size, width=width).to(place)
        self.network = self.network.to(memory_format=torch().channels_last)
        self._call = self.network
        if compiled:
            torch().compiler.reset()
            # In its default mode: with CUDA graphs ("reduce-overhead") nobody has tried it.
            self._call = torch().compile(self.network)
        options = {"fused": True} if place.type == "cuda" else {}
        self.optimizer = torch().optim.SGD(
            self.network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, **options
        )
        self._autocast = functools.partial(
            torch().autocast, place.type, torch().bfloat16, enabled=dtype == "bfloat16"
        )

    def update(self, images: Any, labels: Any) -> Any:
        """One update by a batch that `normalized` returned, and labels int64 [B]; its loss."""
        self.network.train()
        with self._autocast():
            logits = self._call(images)
        loss = torch().nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def predict(self, images: Any) -> Any:
        """Probabilities [B, C]."""
        self.network.eval()
        with torch().inference_mode(), self._autocast():
            logits = self._call(images)
        return logits.float().softmax(dim=1)


def normalized(images: Any) -> Any:
    """uint8 [B, c, c, 3], an array or a tensor -> float32 [B, 3, c, c], channels last."""
    place = device()
    values = torch().as_tensor(images).to(place, non_blocking=True).permute(0, 3, 1, 2).float()
    mean, deviation = (
        torch().tensor(numbers, device=place).view(1, 3, 1, 1) * 255
        for numbers in (MEAN, DEVIATION)
    )
    values = (values - mean) / deviation
    return values.contiguous(memory_format=torch().channels_last)


def keras() -> Any:
    """Keras 3 on JAX; it reads its backend from the environment when it is first imported."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    if keras.backend.backend() != "jax":
        raise RuntimeError("Keras was imported with another backend")
    return keras


def keras_resnet18(*, dtype: str, crop_size: int, num_classes: int = 8) -> Any:
    """ResNet18 from Keras's layers, compiled with the same optimizer and loss."""
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
            kept = values
            values = layers.ReLU()(norm(values, outputs, 3, stride))
            values = norm(values, outputs, 3)
            if stage and not block:
                kept = norm(kept, outputs, 1, stride)
            values = layers.ReLU()(layers.Add()([values, kept]))
    values = layers.GlobalAveragePooling2D()(values)
    model = keras().Model(images, layers.Dense(num_classes, dtype="float32")(values))
    model.compile(
        keras().optimizers.SGD(0.01, momentum=0.9, weight_decay=5e-4),
        keras().losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    return model


def float_images(images: np.ndarray) -> np.ndarray:
    """uint8 [B, c, c, 3] -> float32 of the same shape, normalised: what Keras is given."""
    mean, deviation = 255 * np.array(MEAN, np.float32), 255 * np.array(DEVIATION, np.float32)
    return (images - mean) / deviation
