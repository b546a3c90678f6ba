"""Templates into text; whatever is put into a page is escaped, as file names can be anything."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jinja2

from affect_jax.core.version import __version__
from affect_jax.metrics import protocol
from affect_jax.report import score_names


def render(template: str, context: Mapping[str, Any]) -> str:
    """A page from one of `templates/`."""
    environment = _environment()
    loader = environment.loader
    assert loader is not None
    style, _, _ = loader.get_source(environment, "style.css")
    shared = {"style": style, "version": __version__}
    return environment.get_template(template).render(shared | dict(context))


def write_text(path: pathlib.Path, text: str) -> None:
    """The file appears whole or not at all."""
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
        "fewer": protocol.fewer,
        "number": score_names.number,
        "share": functools.partial(score_names.share, digits=3),
        "signed": score_names.signed,
        "thousands": "{:,}".format,
        "title": score_names.title,
    }
    return environment
