"""The Python class `Predictor`: detects the faces in images and predicts them.

    from affect_jax import Predictor

    predictor = Predictor.load()  # the model in the package; or a run: "runs/weighted"
    prediction = predictor.predict(["party.jpg", pixels, pillow_image])
    prediction.expression[0]  # float32 [8], class probabilities of the first face
    prediction.image[0], prediction.box[0]  # index of its image, and its bounding box

A face is processed as in evaluation: cropped and compressed as a prepared dataset stores it, and
predicted by `predict_step`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import inspect
import itertools
import os
import threading
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from PIL import Image

from affect_jax import data
from affect_jax.core.errors import UserError
from affect_jax.core.labels import MIN_CERTAIN
from affect_jax.core.paths import READY_MODEL
from affect_jax.core.registry import import_submodules
from affect_jax.data import decoding, face_images
from affect_jax.data.worker_processes import num_cores
from affect_jax.facs.action_units import UNITS
from affect_jax.models.network import predict_step
from affect_jax.predict import detection
from affect_jax.run.trained_network import TrainedNetwork, load_network

ImageLike: TypeAlias = str | os.PathLike[str] | np.ndarray | Image.Image
"""Path of a file, RGB pixels uint8 [height, width, 3] (greyscale: [height, width]), or a Pillow
image. Pixels may also be an array of JAX or of another library that NumPy can read."""

SYNTHETIC_FACES_MARGIN = 0.22
"""Rendered faces include this fraction of a detected box on each side (mean of 120 faces)."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The N faces of M images, in the order of the images; within an image the largest is first.

    **Arguments:**

    - `image`: int64 [N], index of each face's image among the M images.
    - `box`: float32 [N, 4], x, y, width, height in pixels of the upright image (rotated by its EXIF
      orientation); it may extend beyond the image.
    - `confidence`: float32 [N], the detector's score of each face; NaN without a detector.
    - `size`: int64 [M, 2], width and height of each upright image; 0 if it is unreadable.
    - `reasons`: M strings, why an image has no face; "" if it has one.
    - `classes`, `units`: names of the C classes, numbers of the 18 action units.
    - `expression`: float32 [N, C], probabilities.
    - `valence_arousal`: float32 [N, 2], in [-1, 1].
    - `action_units`: float32 [N, 18], probabilities.
    - `features`: float32 [N, F], of the trunk; None unless requested.

    Outputs of heads that the network lacks are None, and their names are `()`.
    """

    image: np.ndarray
    box: np.ndarray
    confidence: np.ndarray
    size: np.ndarray
    reasons: tuple[str, ...]
    classes: tuple[str, ...]
    units: tuple[int, ...]
    expression: np.ndarray | None = None
    valence_arousal: np.ndarray | None = None
    action_units: np.ndarray | None = None
    features: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.image)

    @property
    def uncertain(self) -> np.ndarray | None:
        """bool [N]: whether no class of `expression` has a probability of `MIN_CERTAIN`."""
        if self.expression is None:
            return None
        return self.expression.max(axis=1, initial=0) < MIN_CERTAIN


class ImageFaces(NamedTuple):
    """The n faces of one image.

    - `size`: width and height of the upright image; (0, 0) if it is unreadable.
    - `boxes`, `confidence`: as in `Prediction`, [n, 4] and [n].
    - `crops`: uint8 [n, S, S, 3], the faces as a prepared dataset stores them.
    - `reason`: why the image has no face, or "".
    - `outputs`: their predictions, `{head: float32 [n, ...]}`; empty before the network.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    confidence: np.ndarray
    crops: np.ndarray
    reason: str
    outputs: Mapping[str, np.ndarray] = types.MappingProxyType({})


class Predictor:
    """A trained network with a face detector; thread-safe.

    **Arguments:**

    - `trained`: the network.
    - `detector`: a name in `detection.DETECTORS`, or a function of type `detection.Detector`.
    - `margin`: fraction of a detected box to add on each side; None: the margin of the dataset
      that the network was trained on.
    - `batch_size`: number of faces in one forward pass; smaller batches are padded.
    - `features`: return the trunk's features too.

    **Raises:** `UserError` if an argument is out of range.
    """

    def __init__(
        self,
        trained: TrainedNetwork,
        *,
        detector: str | detection.Detector = "",
        margin: float | None = None,
        batch_size: int = 8,
        features: bool = False,
    ):
        if batch_size < 1:
            raise UserError(f"batch_size = {batch_size}: must be 1 or more")
        if margin is not None and not 0 <= margin <= 2:
            raise UserError(f"margin = {margin:g}: must be between 0 and 2")
        self.output_names = trained.output_names
        if isinstance(detector, str):
            name = detector or detection.default_detector()
            detector = detection.DETECTORS.create({"name": name})
        self._detector: Any = detector
        self._detector_lock = threading.Lock()  # neither package is thread-safe
        default_margin, self._align = crop_options(trained)
        self._margin = default_margin if margin is None else margin
        self._image_size: int = trained.config.data.image_size
        self._batch_size = batch_size
        self._variables = jax.device_put(trained.variables)
        self._network = jax.jit(
            functools.partial(
                predict_step,
                trained.network,
                mirror=trained.config.evaluation.mirror,
                temperature=trained.temperature,
                features=features,
            )
        )

    @classmethod
    def load(
        cls, run: str | os.PathLike[str] = READY_MODEL, *, step: str | int = "best", **options: Any
    ) -> Predictor:
        """Loads the network from a run's folder; the run's dataset is not needed.

        **Arguments:** `run`, `step`: see `trained_network.load_network`; by default the model in
        the package; `options`: `detector`, `margin`, `batch_size` and `features`, as above.

        **Raises:** `UserError` if the run, the checkpoint or the detector does not exist.
        """
        return cls(load_network(run, str(step)), **options)

    def predict(
        self, images: ImageLike | Iterable[ImageLike], boxes: Sequence[Any] | None = None
    ) -> Prediction:
        """Detects and predicts all faces.

        **Arguments:**

        - `images`: one image, or an iterable of images of any type.
        - `boxes`: known boxes instead of detection, for each image [n, 4]: x, y, width, height in
          pixels of the image as stored. With boxes, images are not rotated to upright.

        **Raises:** `ValueError` if the numbers of images and boxes differ.
        """
        batch: list[Any] = [images] if _is_single_image(images) else list(images)  # pyright: ignore
        if boxes is not None and len(boxes) != len(batch):
            raise ValueError(f"{len(batch)} images, but boxes for {len(boxes)}")
        # An unreadable image gives the arrays their shapes if there is no other.
        faces = list(self.stream(batch or [None], boxes if batch else None))
        return Prediction(
            image=np.repeat(np.arange(len(faces)), [len(image.boxes) for image in faces]),
            box=np.concatenate([image.boxes for image in faces]),
            confidence=np.concatenate([image.confidence for image in faces]),
            size=np.array([image.size for image in faces], np.int64)[: len(batch)],
            reasons=tuple(image.reason for image in faces)[: len(batch)],
            classes=self.output_names.get("expression", ()),
            units=tuple(UNITS) if "action_units" in self.output_names else (),
            **{
                head: np.concatenate([image.outputs[head] for image in faces])
                for head in faces[0].outputs
            },
        )

    def stream(
        self,
        images: Iterable[ImageLike | None],
        boxes: Iterable[Any] | None = None,
        *,
        immediate: bool = False,
    ) -> Iterator[ImageFaces]:
        """Like `predict` for any number of images: yields the results in the order of the images.

        Threads read images ahead, and a batch holds faces of several images.

        **Arguments:**

        - `images`, `boxes`: as in `predict`; None is an image that could not be read.
        - `immediate`: predict each image at once instead of waiting for a full batch (webcams).
        """
        group_size, num_ahead = (1, 0) if immediate else (self._batch_size, num_cores())
        no_boxes = itertools.repeat(None)
        inputs = zip(images, no_boxes if boxes is None else boxes, strict=boxes is not None)
        pending: collections.deque[Future[ImageFaces]] = collections.deque()
        pool = ThreadPoolExecutor(max(1, num_ahead))
        try:
            while True:
                for image, box in itertools.islice(inputs, group_size + num_ahead - len(pending)):
                    pending.append(pool.submit(self.detect, image, box))
                if not pending:
                    return
                group = [pending.popleft().result() for _ in range(min(group_size, len(pending)))]
                outputs = self.predict_crops(np.concatenate([faces.crops for faces in group]))
                end = 0
                for faces in group:
                    start, end = end, end + len(faces.boxes)
                    yield faces._replace(
                        outputs={head: v[start:end] for head, v in outputs.items()}
                    )
        finally:
            pool.shutdown(cancel_futures=True)

    def predict_crops(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """Runs the network alone: uint8 [n, S, S, 3] -> `{head: float32 [n, ...]}`."""
        num_batches = max(1, -(-len(crops) // self._batch_size))
        # Black faces fill the last batch, so that the network is compiled once.
        padded = np.zeros((num_batches * self._batch_size, *crops.shape[1:]), np.uint8)
        padded[: len(crops)] = crops
        outputs = [
            self._network(self._variables, {"image": batch})
            for batch in np.split(padded, num_batches)
        ]
        return {
            head: np.concatenate([batch[head] for batch in outputs])[: len(crops)]
            for head in outputs[0]
        }

    def detect(self, image: ImageLike | None, boxes: Any = None) -> ImageFaces:
        """Detects the faces of one image, and crops them as data preparation does.

        Boxes outside the image are skipped. An unusable image gives a reason, no error.
        """
        size = (0, 0)
        try:
            pixels = load_pixels(image, upright=boxes is None)
            size = (pixels.shape[1], pixels.shape[0])
            if boxes is None:
                with self._detector_lock:
                    boxes, confidence = self._detector(pixels)
            else:
                boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
                confidence = np.full(len(boxes), np.nan, np.float32)
            if not np.isfinite(boxes).all():
                raise face_images.UnusableInputError("a box has a number that is not finite")
            reason = "all boxes are outside the image" if len(boxes) else "no face found"
        except face_images.UnusableInputError as error:
            pixels, boxes, confidence = np.zeros(0), np.zeros((0, 4)), np.zeros(0, np.float32)
            reason = str(error)
        crops = np.empty((len(boxes), self._image_size, self._image_size, 3), np.uint8)
        is_inside = np.zeros(len(boxes), bool)
        for index, box in enumerate(boxes.tolist()):
            with contextlib.suppress(face_images.UnusableInputError):
                face, *_ = face_images.crop_face(
                    pixels, box, self._margin, self._image_size, self._align
                )
                decoding.decode_jpeg(face_images.encode_jpeg(face), crops[index])
                is_inside[index] = True
        return ImageFaces(
            size,
            boxes[is_inside].astype(np.float32),
            confidence[is_inside],
            crops[is_inside],
            "" if is_inside.any() else reason,
        )


def crop_options(trained: TrainedNetwork) -> tuple[float, str]:
    """The margin and the alignment of the faces of the run's dataset, or of a part of it."""
    if trained.margin is not None:
        return trained.margin, trained.align
    import_submodules("affect_jax.data")  # registers the datasets
    name, options = trained.config.data.name, trained.config.data.options
    for spec in options.parts.values() if name == "mixture" else [{"name": name, **options}]:
        parameters = inspect.signature(data.DATASETS[spec["name"]]).parameters
        if "margin" in parameters:
            margin = spec.get("margin", parameters["margin"].default)
            return margin, spec.get("align", "box")
    return SYNTHETIC_FACES_MARGIN, "box"


def _is_single_image(images: Any) -> bool:
    if hasattr(images, "__array__") and not isinstance(images, Image.Image):
        return images.ndim < 4
    return isinstance(images, (str, bytes, os.PathLike, Image.Image))


def load_pixels(image: ImageLike | None, *, upright: bool) -> np.ndarray:
    """The pixels of an image as uint8 RGB [height, width, 3].

    **Raises:** `face_images.UnusableInputError` with the reason.
    """
    if image is None:
        raise face_images.UnusableInputError("no readable frame")
    if isinstance(image, (str, os.PathLike)):
        return face_images.read_image(os.fspath(image), upright=upright)
    if isinstance(image, Image.Image):
        try:
            return face_images.to_rgb(image, upright=upright)
        except (OSError, ValueError) as error:  # Pillow reads the file only here
            raise face_images.UnusableInputError(f"broken image: {error}") from error
    image = np.asarray(image)  # converts arrays of JAX and PyTorch too
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise face_images.UnusableInputError(
            f"pixels are {image.dtype} {list(image.shape)}, not uint8 [height, width, 3]"
        )
    return image
