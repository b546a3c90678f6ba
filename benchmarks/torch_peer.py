"""The peer of the benchmarks: the same networks, training and data loading in PyTorch.

ResNets and the one-tower AlexNet are those of torchvision, the newer networks those of timm. The
published AlexNet is defined here, because torchvision has none. They follow PyTorch's tuning guide:
channels last, autocast for bfloat16, `torch.compile` if requested, TF32 for float32 products on a
GPU (as in JAX), cuDNN's autotuning. PyTorch is imported when it is used.
"""

from __future__ import annotations

import functools
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TORCHVISION_NAMES = {"alexnet_one_tower": "alexnet"}
TORCHVISION_NAMES |= {name: name for name in ("resnet18", "resnet34", "resnet50")}
TIMM_NAMES = {f"efficientnet_{size}": f"tf_efficientnet_{size}" for size in ("b0", "b2")}
TIMM_NAMES |= {f"vit_{size}": f"vit_{size}_patch16_224" for size in ("small", "base")}
TIMM_NAMES |= {"convnext_tiny": "convnext_tiny"}
NETWORKS = ("alexnet", *TORCHVISION_NAMES, *TIMM_NAMES)
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
    """Returns the `trunk` of a config whose network equals that of `create_network`."""
    return {"name": name} | ({"width": width} if width else {})


def torch_device() -> Any:
    """Returns the first GPU if there is one, otherwise the CPU."""
    return torch().device("cuda" if torch().cuda.is_available() else "cpu")


def synchronize() -> None:
    """Waits until the GPU has finished all work."""
    if torch_device().type == "cuda":
        torch().cuda.synchronize()


def create_network(
    name: str, *, num_classes: int = 8, crop_size: int = 224, width: int | None = None
) -> Any:
    """Creates a network with random weights.

    **Arguments:**

    - `name`: one of `NETWORKS`, its name in the registry of trunks.
    - `width`: of the fully connected layers of `alexnet`, instead of 4096; of the first stage of
      `resnet18`, instead of 64.
    """
    if name == "alexnet":
        return create_published_alexnet(num_classes, crop_size, width or 4096)
    if name == "resnet18" and width:
        return create_resnet18(num_classes, width)
    models = torchvision().models
    if name in TORCHVISION_NAMES:
        return models.get_model(TORCHVISION_NAMES[name], num_classes=num_classes)
    import timm  # needs torchvision

    options = {"img_size": crop_size} if "vit" in name else {}
    return timm.create_model(TIMM_NAMES[name], num_classes=num_classes, **options)


def create_resnet18(num_classes: int, width: int) -> Any:
    """torchvision's ResNet18 with another number of channels, which it does not offer."""
    nn, resnet = torch().nn, torchvision().models.resnet
    network = resnet.resnet18(num_classes=num_classes)
    network.conv1, network.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
    network.inplanes = width
    for i in range(4):
        stage = network._make_layer(resnet.BasicBlock, width * 2**i, 2, stride=min(i, 1) + 1)
        setattr(network, f"layer{i + 1}", stage)
    network.fc = nn.Linear(8 * width, num_classes)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # as torchvision initializes them
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


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


class Trainer:
    """A PyTorch network on its device, with SGD, momentum 0.9 and weight decay 5e-4.

    **Arguments:**

    - `dtype`: `float32`, or `bfloat16` for autocast.
    - `compiled`: compile with `torch.compile` at the first call. PyTorch caches graphs by code,
      which networks share: a second batch size would get a graph with a dynamic shape, and the
      ninth case none. So this clears the cache; use one compiled trainer at a time.
    - `crop_size`, `width`: see `create_network`.
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
        network = create_network(name, crop_size=crop_size, width=width).to(device)
        self.network = network.to(memory_format=torch().channels_last)
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
        """Computes one update from a batch of `normalize_images`.

        **Arguments:** `labels`: int64 [B], or probabilities [B, C].

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

    def predict(self, images: Any, network: Any = None) -> Any:
        """Returns probabilities [B, C]; with another network than the trained one if given."""
        (network or self.network).eval()
        with torch().inference_mode(), self._autocast():
            logits = (network or self._forward)(images)
        return logits.float().softmax(dim=1)


def average_weights(network: Any, decay: float) -> Any:
    """Returns timm's moving average of the weights of a network."""
    torchvision()  # timm imports it
    from timm.utils.model_ema import ModelEmaV3

    return ModelEmaV3(network, decay=decay)


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


def read_jpegs(split: Any, rows: Iterable[int]) -> Iterator[bytes]:
    """Yields the JPEGs of the given rows of a prepared split."""
    return (split.records[int(row)]["image"] for row in rows)


def write_files(jpegs: Iterable[bytes], folder: pathlib.Path) -> None:
    """Creates the folder and writes `0.jpg`, `1.jpg`, ... into it."""
    folder.mkdir(parents=True)
    for index, jpeg in enumerate(jpegs):
        (folder / f"{index}.jpg").write_bytes(jpeg)


def decode_with_pillow(path: pathlib.Path) -> np.ndarray:
    """Decodes a JPEG file to RGB, uint8 [H, W, 3], as the documentation of PyTorch shows."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


Decode = Callable[[pathlib.Path], np.ndarray]  # the path of a JPEG file -> uint8 [H, W, 3]


class FaceFiles:
    """A map-style dataset of JPEG files.

    Training crops and mirrors at random, evaluation crops the centre. The crop is an array slice,
    which is the cheapest one, and the faces stay uint8.

    **Arguments:**

    - `folder`: a folder of `write_files`.
    - `labels`: int [N].
    - `crop_size`: None returns whole faces.
    - `train`: whether to crop and mirror at random.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        labels: np.ndarray,
        crop_size: int | None,
        train: bool,
        decode: Decode = decode_with_pillow,
    ):
        self._folder, self._labels = folder, labels
        self._crop_size, self._train, self._decode = crop_size, train, decode

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Any:
        pixels = self._decode(self._folder / f"{index}.jpg")
        if self._crop_size is not None:
            pixels = self._crop(pixels, self._crop_size)
        return torch().from_numpy(np.array(pixels)), int(self._labels[index])

    def _crop(self, pixels: np.ndarray, size: int) -> np.ndarray:
        margin = pixels.shape[0] - size
        top = left = margin // 2
        if self._train:
            top, left, mirrored = torch().randint(0, 1 << 30, (3,)).tolist()
            top, left = top % (margin + 1), left % (margin + 1)
            pixels = pixels[:, ::-1] if mirrored % 2 else pixels
        return pixels[top : top + size, left : left + size]


def create_loader(data: Any, batch_size: int, *, workers: int, passes: int | None = None) -> Any:
    """Creates a `DataLoader`.

    **Arguments:** `passes`: the number of shuffled passes in one iteration, without the last,
    incomplete batch of each. None: one pass in order, with all faces.
    """
    torch()
    from torch.utils.data import DataLoader, RandomSampler

    num_faces = len(data) // batch_size * batch_size
    return DataLoader(
        data,
        batch_size,
        sampler=RandomSampler(data, num_samples=passes * num_faces) if passes else None,
        drop_last=passes is not None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch_device().type == "cuda",
        # A fork would copy locks of JAX's threads.
        multiprocessing_context="spawn" if workers else None,
    )
