"""Renders the HTML templates; all values are escaped, because file names can contain markup."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from affect_jax.core.version import __version__
from affect_jax.metrics import protocol
from affect_jax.report import score_names

THUMBNAIL_SIZE = 128  # side length of a face in pixels


def render_page(sections: Sequence[tuple[str, str, Sequence[str]]], **context: Any) -> str:
    """Renders `templates/page.html`.

    **Arguments:** `sections`: anchor, title and blocks (return values of `MACROS`) of each section.
    A section of empty blocks is left out.
    """
    template = ENVIRONMENT.get_template("page.html")
    present = [section for section in sections if any(section[2])]
    return template.render(context, sections=present, version=__version__)


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


def escape_markdown(text: str) -> str:
    """Escapes a name for a cell of a Markdown table, which may contain HTML."""
    line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]#!|~$@]|:(?=\S))", r"\\\1", line)


ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("affect_jax.report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= {
    "exact": repr,
    "markdown": escape_markdown,
    "png": encode_png,
    "thumbnail": encode_thumbnail,
    "partial_count": protocol.format_partial_count,
    "interval": score_names.format_interval,
    "number": score_names.format_score,
    "title": score_names.format_title,
}
MACROS: Any = ENVIRONMENT.get_template("macros.html").module
"""The blocks of a page: the macros of `templates/macros.html` as functions that return HTML."""
