"""Reads a face: converts a row of a release to a square JPEG, or gives the reason to skip it.

This module runs in worker processes, so it imports little. All input is untrusted: images are
checked before they are decoded, paths must stay below the image folder, and any defect becomes an
`UnusableInputError` with a reason for `skipped.csv`.
"""

from __future__ import annotations

import collections
import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from affect_jax.core.errors import is_out_of_memory
from affect_jax.data import alignment, annotation_parsing
from affect_jax.data.annotation_parsing import NUM_LANDMARKS, UnusableInputError
from affect_jax.facs.action_units import UNITS

MAX_PIXELS = 64 * 2**20
"""Larger images are not decoded: 64 megapixels take 192 MiB of memory."""

JPEG_QUALITY = 95

# Pillow supports more formats, some of which start other programs (EPS).
IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP", "PPM")
IMAGE_SUFFIXES = ".bmp .gif .jfif .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split()


def is_image(path: str) -> bool:
    """Whether the suffix of a file is that of an image."""
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


class Row(NamedTuple):
    """A row of a release before validation.

    - `number`: its line in the CSV, or the face's number in a release without a CSV.
    - `id`: origin of the face; `make_ids_unique` makes it unique within the split.
    - `image`: path below `folder`, or the content of an image file.
    - `values`: name -> text or number, for `expression`, `valence`, `arousal`, `facial_landmarks`,
      `AU1`, `AU2`, ..., the four `annotation_parsing.BOX_FIELDS` and `group`; name -> one number
      per class for `expression_distribution` and `votes`. A missing name was not annotated; without
      a box, the face is the whole image.
    - `annotation_prefix`: common prefix of the paths of its `.npy` files, which replace `values`.
    - `is_relative`: the box is in fractions of the width and height of the upright image.
    - `reason`: why the row cannot be used; empty if no problem is known.
    - `folder`: the folder of the images; empty: that of the settings.
    - `unit_scale`: maximum intensity of an action unit in `values`.
    """

    number: int
    id: str
    image: str | bytes
    values: Mapping[str, Any]
    annotation_prefix: str = ""
    is_relative: bool = False
    reason: str = ""
    folder: str = ""
    unit_scale: float = 1.0


class Settings(NamedTuple):
    """Settings to convert rows to faces, the same for all rows of a split.

    - `folder`: the image folder.
    - The others are those of `tfds_builder.FacesConfig`.
    """

    folder: str
    image_size: int
    margin: float
    classes: Sequence[str]
    extra_features: Sequence[str] = ()
    align: str = "box"


class Face(NamedTuple):
    """The result of reading a row: a record, or the reason why the row cannot be used."""

    number: int
    id: str
    reason: str
    record: dict[str, Any] | None = None


def make_record(
    identifier: str,
    image: bytes,
    expression: int,
    *,
    box: Sequence[float],
    valence: float = np.nan,
    arousal: float = np.nan,
    landmarks: np.ndarray | None = None,
    aspect: float = 1.0,
    action_units: np.ndarray | None = None,
    action_unit_sides: np.ndarray | None = None,
    **extra_features: Any,
) -> dict[str, Any]:
    """Creates a record with the features of `tfds_builder.face_features`.

    Missing labels become NaN.

    **Arguments:**

    - `image`: an encoded JPEG file of the builder's image size.
    - `extra_features`: those of `FacesConfig.extra_features`.
    """

    def fill_missing(values: np.ndarray | None, *shape: int) -> np.ndarray:
        return np.asarray(np.full(shape, np.nan) if values is None else values, np.float32)

    return {
        "image": io.BytesIO(image),  # tfds copies a file, but encodes an array
        "expression": int(expression),
        "valence": np.float32(valence),
        "arousal": np.float32(arousal),
        "landmarks": fill_missing(landmarks, NUM_LANDMARKS, 2),
        "aspect": np.float32(aspect),
        "action_units": fill_missing(action_units, len(UNITS)),
        "action_unit_sides": fill_missing(action_unit_sides, 2, len(UNITS)),
        "box": np.asarray(box, np.float32),
        "id": identifier,
        **extra_features,
    }


def make_ids_unique(rows: Iterable[Row]) -> Iterator[Row]:
    """Makes the ids unique and valid UTF-8: the second `a.jpg` becomes `a.jpg#2`."""
    counts: collections.Counter[str] = collections.Counter()
    for row in rows:
        row = row._replace(id=row.id.encode(errors="backslashreplace").decode())
        unique_id = row.id
        while unique_id in counts:  # a file may be named `a.jpg#2`
            counts[row.id] += 1
            unique_id = f"{row.id}#{counts[row.id]}"
        counts[unique_id] += 1
        yield row._replace(id=unique_id)


def read_face(row: Row, settings: Settings) -> Face:
    """Reads, crops, resizes and encodes a face; unusable files give a face without a record.

    A lack of memory is an error, since the set of skipped faces must not depend on the machine.
    """
    try:
        if row.reason:
            raise UnusableInputError(row.reason)
        return Face(row.number, row.id, "", _read_record(row, settings))
    except UnusableInputError as unusable:
        return Face(row.number, row.id, str(unusable))


def _read_record(row: Row, settings: Settings) -> dict[str, Any]:
    values = row.values
    if row.annotation_prefix:
        values = annotation_parsing.read_annotations(row.annotation_prefix)
    expression = annotation_parsing.parse_expression(values, settings.classes)
    valence = annotation_parsing.parse_dimension(values, "valence")
    arousal = annotation_parsing.parse_dimension(values, "arousal")
    landmarks = annotation_parsing.parse_landmarks(values)
    units = annotation_parsing.parse_action_units(values, row.unit_scale)
    box = annotation_parsing.parse_box(values)
    extra_features = annotation_parsing.parse_extra_features(
        values, settings.extra_features, len(settings.classes)
    )
    upright = box is None or row.is_relative
    if isinstance(row.image, bytes):
        image = decode_image(row.image, upright=upright)
    else:
        image = read_image(
            resolve_path_below(row.folder or settings.folder, row.image), upright=upright
        )
    height, width = image.shape[:2]
    if box is None:
        box = (0.0, 0.0, float(width), float(height))
    elif row.is_relative:
        box = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    face, landmarks, aspect = crop_face(
        image, box, settings.margin, settings.image_size, settings.align, landmarks
    )
    return make_record(
        row.id,
        encode_jpeg(face),
        expression,
        box=box,
        valence=valence,
        arousal=arousal,
        landmarks=landmarks,
        aspect=aspect,
        action_units=units,
        **extra_features,
    )


def resolve_path_below(folder: str, relative_path: str) -> str:
    """Resolves links of a path and checks that it is below `folder`."""
    if "\0" in relative_path:
        raise UnusableInputError("path contains a zero byte")
    folder = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(folder, relative_path.replace("\\", "/")))
    if not path.startswith(os.path.join(folder, "")):
        raise UnusableInputError("path leaves the image folder")
    return path


def read_image(path: str, *, upright: bool = False) -> np.ndarray:
    """Decodes an image of any `IMAGE_FORMATS`: uint8 RGB [height, width, 3].

    The content of the file determines its format, not its extension. Only the first frame of an
    animation is used. Greyscale, palette and CMYK are converted to RGB, transparency is dropped,
    and 16 bits are truncated to 8.

    **Arguments:** `upright`: rotate the image by its EXIF orientation. Do not use it with
    annotations in pixels: those of AffectNet were made by tools that ignore the orientation.
    """
    return decode_image(annotation_parsing.read_file(path), upright=upright)


def decode_image(content: bytes, *, upright: bool = False) -> np.ndarray:
    """Like `read_image`, for the bytes of a file."""
    may_be_rotated = upright and b"Exif" in content
    if not may_be_rotated and (pixels := _decode_common_jpeg(content)) is not None:
        return pixels
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # Pillow warns of odd metadata
            Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise UnusableInputError("image has more than 64 megapixels")
            return to_rgb(image, upright=upright)
    except UnidentifiedImageError:
        raise UnusableInputError("not an image") from None
    except Image.DecompressionBombError:
        raise UnusableInputError("image has more than 64 megapixels") from None
    except Exception as error:  # for damaged bytes, decoders raise errors of any type
        if isinstance(error, UnusableInputError) or is_out_of_memory(error):
            raise
        if "truncated" in str(error).lower():
            raise UnusableInputError("image is truncated") from error
        raise UnusableInputError(f"broken image: {type(error).__name__}: {error}") from error


def _decode_common_jpeg(content: bytes) -> np.ndarray | None:
    """Decodes a common JPEG in half of Pillow's time; None for any other file."""
    try:
        height, width, colour_space, subsampling = simplejpeg.decode_jpeg_header(content)
        is_common = colour_space in ("YCbCr", "Gray") and subsampling in ("420", "444", "Gray")
        if is_common and int(width) * int(height) <= MAX_PIXELS:
            return simplejpeg.decode_jpeg(content, "RGB", strict=True)
    except ValueError:
        pass
    return None


def to_rgb(image: Image.Image, *, upright: bool = False) -> np.ndarray:
    """Converts an image of any mode to pixels, as in `read_image`."""
    pixels = ImageOps.exif_transpose(image) if upright else image
    if pixels.mode.startswith("I"):
        values = np.asarray(pixels)
        if values.min() < 0 or values.max() > 65535:
            raise UnusableInputError("pixels have more than 16 bits")
        return np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    if pixels.mode == "F":
        raise UnusableInputError("pixels are floating-point numbers")
    return np.asarray(pixels.convert("RGB"))


def crop_face(
    image: np.ndarray,
    box: Sequence[float],
    margin: float,
    size: int,
    align: str = "box",
    landmarks: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Crops a face to a square, as a prepared dataset stores it.

    **Arguments:** `align`: `box`, see `crop_and_resize`, or `eyes`, see `alignment.align`: if no
    eyes are found, by the box; `landmarks`: float [68, 2], pixels of the image, or None; the others
    as for `crop_and_resize`.

    **Returns:** uint8 [size, size, 3], the landmarks in its pixels, float32, and the width over the
    height of the face before it was resized.
    """
    if align == "eyes":
        clip_box(image, box, margin)  # an unusable box is an error here, too
        if (eyes := alignment.find_eyes(image, box, landmarks)) is not None:
            face, matrix = alignment.align(image, eyes, margin, size)
            if landmarks is not None:
                landmarks = (landmarks @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
            return face, landmarks, 1.0
    face, frame = crop_and_resize(image, box, margin, size)
    if landmarks is not None:
        landmarks = map_points_to_crop(landmarks, frame, size)
    return face, landmarks, frame[2] / frame[3]


def crop_and_resize(
    image: np.ndarray, box: Sequence[float], margin: float, size: int
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Crops a box and resizes it to a square without keeping the aspect ratio.

    The faces in AffectNet's second release were resized in the same way. A box that extends beyond
    the image is clipped at its border, without padding.

    **Arguments:**

    - `image`: uint8 [height, width, 3].
    - `box`: x, y, width, height in pixels.
    - `margin`: fraction of the box's width and height that is added on each side.
    - `size`: side of the result, pixels.

    **Returns:** uint8 [size, size, 3], and the clipped box: left, top, width, height.
    """
    left, top, width, height = frame = clip_box(image, box, margin)
    face = image[top : top + height, left : left + width]
    shrinks = min(face.shape[:2]) >= size  # INTER_AREA averages, but would repeat pixels
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(face, (size, size), interpolation=interpolation), frame


def clip_box(image: np.ndarray, box: Sequence[float], margin: float) -> tuple[int, int, int, int]:
    """Clips a box with its margin at the border of the image: left, top, width, height, pixels.

    **Raises:** `UnusableInputError` if the box has no area or is outside of the image.
    """
    height, width = image.shape[:2]
    x, y, box_width, box_height = box
    if round(box_width) < 1 or round(box_height) < 1:
        raise UnusableInputError("box has no area")
    left, top = max(0, round(x - margin * box_width)), max(0, round(y - margin * box_height))
    right = min(width, round(x + box_width + margin * box_width))
    bottom = min(height, round(y + box_height + margin * box_height))
    if left >= right or top >= bottom:
        raise UnusableInputError("box is outside the image")
    return left, top, right - left, bottom - top


def map_points_to_crop(points: np.ndarray, frame: Sequence[int], size: int) -> np.ndarray:
    """Maps pixel coordinates of the image, float [P, 2], into a crop resized to `size`.

    Integer coordinates are the centres of pixels, so half a pixel is added before scaling, as in
    `cv2.resize`.
    """
    left, top, width, height = frame
    scale = np.array([size / width, size / height])
    return ((points - (left, top) + 0.5) * scale - 0.5).astype(np.float32)


def encode_jpeg(image: np.ndarray) -> bytes:
    """Encodes uint8 RGB [S, S, 3] as a JPEG of quality 95 with halved colour resolution (4:2:0)."""
    content = np.ascontiguousarray(image)
    return simplejpeg.encode_jpeg(content, JPEG_QUALITY, "RGB", colorsubsampling="420")
