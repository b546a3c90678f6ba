"""Test helpers: an image of a face in a file, and its row."""

from __future__ import annotations

import io
import os
import pathlib

import numpy as np
from PIL import Image

from affect_jax.core import labels
from affect_jax.data import annotation_parsing, face_images


def photograph(width: int = 48, height: int = 40) -> np.ndarray:
    """uint8 [height, width, 3]; smooth, so that JPEG changes it little."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    channels = (x / width * 255, y / height * 255, (x + y) / (width + height) * 255)
    return np.stack(channels, -1).astype(np.uint8)


def saved(path: pathlib.Path, image: Image.Image, **options) -> str:
    image.save(path, **options)
    return str(path)


def content_of(image: np.ndarray, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def settings(folder: pathlib.Path, **changes) -> face_images.Settings:
    base = face_images.Settings(os.path.realpath(folder), 32, 0.0, labels.EXPRESSIONS)
    return base._replace(**changes)


def row(image: str = "a.jpg", **values) -> face_images.Row:
    texts = {"expression": "1", "valence": "0.5", "arousal": "-0.25", "facial_landmarks": ""}
    texts |= dict(zip(annotation_parsing.BOX_FIELDS, ("4", "5", "30", "20"), strict=True))
    return face_images.Row(2, image, image, texts | values)
