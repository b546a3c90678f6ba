"""A trained network for anybody's images: faces found, cut as in preparation, and predicted.

    from affect_jax import Predictor

    predictor = Predictor.load("runs/weighted")
    found = predictor.predict(["party.jpg", pixels, pillow_image])
    found.expression[0]  # float32 [8], probabilities of the first face
    found.image[0], found.box[0]  # whose face it is, and where

A face goes the way of the training's: `faces.crop`, JPEG of the same quality, `steps.predict_step`.
Every batch has one size, padded with black, so that the network is compiled once.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import inspect
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from PIL import Image

from affect_jax import data
from affect_jax.config import Config
from affect_jax.core.errors import UserError
from affect_jax.data import decoding, face_images
from affect_jax.data.worker_processes import num_cores
from affect_jax.facs.action_units import UNITS
from affect_jax.models.predict_step import predict_step
from affect_jax.predict import detection
from affect_jax.run.load import (
    TrainedNetwork,
    load_network,
)

Picture: TypeAlias = str | os.PathLike[str] | np.ndarray | Image.Image
"""A file, RGB pixels uint8 [height, width, 3] (grey: [height, width]), or an image of Pillow's.
Pixels may be JAX's or another library's that NumPy reads."""

RENDERED_MARGIN = 0.22
"""Rendered faces are drawn with this share of a detected box around it, on each side (the mean of
120 of them): a network that learned from them wants it of photographs too."""

NO_FACE = "no face found"
TINY = 20  # pixels: no detector finds a face in a smaller image
KEPT_PIXELS = 48 * 2**20  # of images that wait for their faces' predictions: 144 MiB


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The N faces of M images, in the order of the images, in each the largest first.

    **Arguments:**

    - `image`: int64 [N], whose face it is: a place among the M images.
    - `box`: float32 [N, 4], x, y, width, height in pixels of the image turned upright (as its EXIF
      entry asks); it may leave the image. Where boxes were given: those.
    - `confidence`: float32 [N], the detector's score of the face; NaN without a detector.
    - `size`: int64 [M, 2], width and height of each image turned upright; 0 where it has none.
    - `reasons`: why an image has no face, M texts; "" where it has some.
    - `classes`, `units`: names of the C classes, numbers of the 18 action units; `()` without.
    - `expression`: float32 [N, C], probabilities; None where the network has no such head.
    - `valence_arousal`: float32 [N, 2], in [-1, 1]; or None.
    - `action_units`: float32 [N, 18], probabilities; or None.
    """

    image: np.ndarray
    box: np.ndarray
    confidence: np.ndarray
    size: np.ndarray
    reasons: tuple[str, ...]
    classes: tuple[str, ...]
    units: tuple[int, ...]
    expression: np.ndarray | None
    valence_arousal: np.ndarray | None
    action_units: np.ndarray | None

    def __len__(self) -> int:
        return len(self.image)


class Found(NamedTuple):
    """The n faces of one image.

    - `size`: its width and height, upright; (0, 0) where it could not be read.
    - `boxes`, `confidence`: as `box` and `confidence` above, [n, 4] and [n].
    - `crops`: uint8 [n, S, S, 3], as they would be stored.
    - `reason`: why there is none, or "".
    - `pixels`: uint8 [height, width, 3], upright; None unless it was asked for.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    confidence: np.ndarray
    crops: np.ndarray
    reason: str
    pixels: np.ndarray | None


class Seen(NamedTuple):
    """One image's faces, and what the network says of them: `{head: float32 [n, ...]}`."""

    found: Found
    outputs: dict[str, np.ndarray]


class Predictor:
    """A network with a detector in front; any number of threads may use one.

    **Arguments:**

    - `trained`: the network.
    - `detector`: a name of `detection.DETECTORS`, or a function like those.
    - `margin`: share of a detected box added on each side; None: the data set's of the run.
    - `batch_size`: faces that go through the network at once; fewer are padded.
    """

    def __init__(
        self,
        trained: TrainedNetwork,
        *,
        detector: str | detection.Detector = "libfacedetection",
        margin: float | None = None,
        batch_size: int = 8,
    ):
        config = trained.config
        if batch_size < 1:
            raise UserError(f"batch_size = {batch_size}: must be 1 or more")
        if margin is not None and not 0 <= margin <= 2:
            raise UserError(f"margin = {margin:g}: must be between 0 and 2")
        self.heads: tuple[str, ...] = tuple(config.heads)
        self.classes = trained.classes
        self.units = tuple(UNITS) if "action_units" in self.heads else ()
        self.step = trained.step
        self._detector: detection.Detector = (
            detection.DETECTORS.create({"name": detector})
            if isinstance(detector, str)
            else detector
        )
        self._margin = _margin(config) if margin is None else margin
        self._image_size: int = config.data.image_size
        self._batch_size = batch_size
        self._variables = jax.device_put(trained.variables)
        self._network = jax.jit(
            functools.partial(predict_step, trained.network, mirror=config.evaluation.mirror)
        )

    @classmethod
    def load(
        cls, run: str | os.PathLike[str], *, step: str | int = "best", **options: Any
    ) -> Predictor:
        """The network of a run's folder; its data are not needed.

        **Arguments:**

        - `run`: the folder.
        - `step`: which checkpoint: `best`, `last` or a step.
        - `options`: `detector`, `margin`, `batch_size`, see above.

        **Raises:** `UserError` where there is no run, no such checkpoint or detector.
        """
        return cls(load_network(pathlib.Path(run), str(step)), **options)

    def predict(
        self, images: Picture | Iterable[Picture], boxes: Sequence[Any] | None = None
    ) -> Prediction:
        """Finds and predicts every face.

        **Arguments:**

        - `images`: one, or several of any kinds.
        - `boxes`: where the faces are known, for each image [n, 4]: x, y, width, height in pixels
          of the image as it is stored. Nothing is searched then, and no image is turned.
        """
        several: list[Any] = [images] if _is_one(images) else list(images)  # pyright: ignore
        if boxes is not None and len(boxes) != len(several):
            raise ValueError(f"{len(several)} images, but boxes for {len(boxes)}")
        seen = list(self.stream(several, boxes))
        counts = [len(one.found.boxes) for one in seen]
        outputs = {
            head: np.concatenate([one.outputs[head] for one in seen] or [self._empty(head)])
            for head in self.heads
        }
        found = [one.found for one in seen]
        none = np.zeros((0, 4), np.float32)
        return Prediction(
            image=np.repeat(np.arange(len(seen)), counts),
            box=np.concatenate([one.boxes for one in found] or [none]),
            confidence=np.concatenate([one.confidence for one in found] or [none[:, 0]]),
            size=np.array([one.size for one in found], np.int64).reshape(-1, 2),
            reasons=tuple(one.reason for one in found),
            classes=self.classes,
            units=self.units,
            **{head: outputs[head] if head in outputs else None for head in _SHAPES},
        )

    def stream(
        self,
        images: Iterable[Picture],
        boxes: Iterable[Any] | None = None,
        *,
        keep: bool = False,
        at_once: bool = False,
    ) -> Iterator[Seen]:
        """The same one image after the other, in their order, whatever their number.

        Images are read ahead in threads, and their faces fill batches across images.

        **Arguments:**

        - `keep`: give the images' pixels too; fewer of them wait for a full batch then.
        - `at_once`: let no image wait for others, for a camera.
        """
        group: list[Found] = []
        waiting = pixels = 0
        for found in self._find_all(images, boxes, keep, ahead=0 if at_once else num_cores()):
            group.append(found)
            waiting += len(found.boxes)
            pixels += found.size[0] * found.size[1] if keep else 0
            full = waiting >= self._batch_size or pixels > KEPT_PIXELS
            if at_once or full or not waiting:
                yield from self._through_network(group)
                group, waiting, pixels = [], 0, 0
        yield from self._through_network(group)

    def warm_up(self) -> None:
        """Compiles the network, so that the first image takes no longer than others."""
        self.outputs(np.zeros((1, self._image_size, self._image_size, 3), np.uint8))

    def outputs(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """The network alone: uint8 [n, S, S, 3] -> `{head: float32 [n, ...]}`."""
        parts = []
        for start in range(0, len(crops), self._batch_size):
            some = crops[start : start + self._batch_size]
            padded = np.zeros((self._batch_size, *crops.shape[1:]), np.uint8)
            padded[: len(some)] = some
            parts.append((len(some), self._network(self._variables, {"image": padded})))
        return {
            head: np.concatenate(
                [self._empty(head), *(np.asarray(part[head])[:count] for count, part in parts)]
            )
            for head in self.heads
        }

    def find(self, image: Picture, boxes: Any = None, *, keep: bool = False) -> Found:
        """The faces of one image, before the network; what is wrong with it becomes a reason."""
        size = (0, 0)
        try:
            pixels = _pixels(image, upright=boxes is None)
            size = (pixels.shape[1], pixels.shape[0])
            if boxes is None:
                where = self._detector(pixels)
            else:
                given = np.asarray(boxes, np.float64).reshape(-1, 4)
                if not np.isfinite(given).all():
                    raise face_images.Unusable("a box has a number that is not finite")
                where = detection.Faces(given, np.full(len(given), np.nan, np.float32))
            crops, kept = self._crops(pixels, where.boxes)
        except face_images.Unusable as unusable:
            return self.nothing(str(unusable), size)
        kept_pixels = pixels if keep else None
        if not kept:
            reason = "no box has a part in the image" if len(where.boxes) else NO_FACE
            if not len(where.boxes) and min(size) < TINY:
                reason += f", the image has only {size[0]} x {size[1]} pixels"
            return self.nothing(reason, size)._replace(pixels=kept_pixels)
        return Found(
            size,
            where.boxes[kept].astype(np.float32),
            where.confidence[kept],
            crops,
            "",
            kept_pixels,
        )

    def _crops(self, pixels: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, list[int]]:
        """The faces as records hold them, and the places of those boxes that are in the image."""
        size = self._image_size
        crops, kept = np.empty((len(boxes), size, size, 3), np.uint8), []
        for place, box in enumerate(boxes.tolist()):
            with contextlib.suppress(face_images.Unusable):
                face, _ = face_images.crop(pixels, box, self._margin, size)
                decoding.decode(face_images.encode(face), crops[len(kept)])
                kept.append(place)
        return crops[: len(kept)], kept

    def nothing(self, reason: str, size: tuple[int, int] = (0, 0)) -> Found:
        """An image without a face."""
        side = self._image_size
        crops = np.zeros((0, side, side, 3), np.uint8)
        boxes = np.zeros((0, 4), np.float32)
        return Found(size, boxes, boxes[:, 0], crops, reason, None)

    def _empty(self, head: str) -> np.ndarray:
        width = len(self.classes) if head == "expression" else _SHAPES[head]
        return np.zeros((0, width), np.float32)

    def _find_all(
        self, images: Iterable[Picture], boxes: Iterable[Any] | None, keep: bool, ahead: int
    ) -> Iterator[Found]:
        pending: collections.deque[Future[Found]] = collections.deque()
        known = itertools.repeat(None) if boxes is None else boxes
        pool = ThreadPoolExecutor(max(1, ahead))
        try:
            for image, box in zip(images, known, strict=boxes is not None):
                pending.append(pool.submit(self.find, image, box, keep=keep))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _through_network(self, group: Sequence[Found]) -> Iterator[Seen]:
        if not group:
            return
        outputs = self.outputs(np.concatenate([found.crops for found in group]))
        end = 0
        for found in group:
            start, end = end, end + len(found.boxes)
            yield Seen(found, {head: values[start:end] for head, values in outputs.items()})


_SHAPES = {"expression": 0, "valence_arousal": 2, "action_units": len(UNITS)}
"""Head -> length of its output; of expressions the run's classes decide."""


def _margin(config: Config) -> float:
    """The margin with which the run's faces were cut."""
    if "margin" in config.data.options:
        return config.data.options.margin
    parameters = inspect.signature(data.DATASETS[config.data.name]).parameters
    if "margin" in parameters:
        return parameters["margin"].default
    return RENDERED_MARGIN


def _is_one(images: Any) -> bool:
    if hasattr(images, "__array__") and not isinstance(images, Image.Image):
        return images.ndim < 4
    return isinstance(images, (str, bytes, os.PathLike, Image.Image))


def _pixels(image: Picture, *, upright: bool) -> np.ndarray:
    """uint8 RGB [height, width, 3].

    **Raises:** `faces.Unusable` with what is wrong.
    """
    if isinstance(image, (str, os.PathLike)):
        return face_images.read_image(os.fspath(image), upright=upright)
    if isinstance(image, Image.Image):
        if image.width * image.height > face_images.MAX_PIXELS:
            raise face_images.Unusable("image has more than 64 megapixels")
        try:
            return face_images.to_rgb(image, upright=upright)
        except (OSError, ValueError) as error:  # Pillow reads a file when its pixels are asked for
            raise face_images.Unusable(f"broken image: {error}") from error
    if not hasattr(image, "__array__"):
        raise face_images.Unusable(
            f"{type(image).__name__}: not a path, pixels or an image of Pillow's"
        )
    image = np.asarray(image)  # of JAX's or PyTorch's arrays too
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise face_images.Unusable(
            f"pixels are {image.dtype} {list(image.shape)}, not uint8 [height, width, 3]"
        )
    if image.shape[0] * image.shape[1] > face_images.MAX_PIXELS:
        raise face_images.Unusable("image has more than 64 megapixels")
    return image
