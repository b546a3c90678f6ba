"""Renders the HTML templates; all values are escaped, because file names can contain markup."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jinja2

from affect_jax.core.version import __version__
from affect_jax.metrics import protocol
from affect_jax.report import score_names


def render_template(template: str, context: Mapping[str, Any]) -> str:
    """Renders one of `templates/` to a page."""
    environment = _environment()
    loader = environment.loader
    assert loader is not None
    style, _, _ = loader.get_source(environment, "style.css")
    shared = {"style": style, "version": __version__}
    return environment.get_template(template).render(shared | dict(context))


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file atomically."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("affect_jax.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "exact": repr,
        "partial_count": protocol.format_partial_count,
        "number": score_names.format_score,
        "share": functools.partial(score_names.format_fraction, digits=3),
        "signed": score_names.format_difference,
        "thousands": "{:,}".format,
        "title": score_names.format_title,
    }
    return environment
