"""Renders the HTML templates; all values are escaped, because file names can contain markup."""

from __future__ import annotations

import base64
import functools
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from affect_jax.core.version import __version__
from affect_jax.metrics import protocol
from affect_jax.report import score_names

THUMBNAIL_SIZE = 128  # side length of a face in pixels


def render_template(
    template: str, context: Mapping[str, Any], sections: Sequence[tuple[str, str, Any]]
) -> str:
    """Renders one of `templates/` to a page.

    **Arguments:**

    - `sections`: (id, title, whether the page has the section) of each section.
    """
    titles = {id: title for id, title, is_present in sections if is_present}
    environment = _create_environment()
    return environment.get_template(template).render(context, sections=titles, version=__version__)


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file atomically."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def encode_png(pixels: np.ndarray) -> str:
    """Encodes a figure, uint8 [H, W, 3], as a data URI; 128 colours halve its size."""
    return _encode(Image.fromarray(pixels).quantize(128), "png")


def encode_thumbnail(pixels: np.ndarray) -> str:
    """Encodes a face, uint8 [S, S, 3], as a data URI of at most `THUMBNAIL_SIZE` pixels."""
    face = Image.fromarray(pixels)
    face.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.LANCZOS)
    return _encode(face, "jpeg", quality=82)


def _encode(image: Image.Image, format: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return f"data:image/{format};base64,{base64.b64encode(buffer.getvalue()).decode()}"


@functools.cache
def _create_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("affect_jax.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "exact": repr,
        "png": encode_png,
        "thumbnail": encode_thumbnail,
        "partial_count": protocol.format_partial_count,
        "interval": score_names.format_interval,
        "number": score_names.format_score,
        "share": functools.partial(score_names.format_fraction, digits=3),
        "signed": score_names.format_difference,
        "thousands": "{:,}".format,
        "title": score_names.format_title,
    }
    return environment
