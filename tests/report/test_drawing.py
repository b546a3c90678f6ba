"""How figures look: readable by everyone, the same each time, fit for a page and for a phone."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from affect_jax.report import plotting, templating
from affect_jax.report.figures import faces
from affect_jax.report.plotting import DARK, SERIES, Drawing, panels, picture


def luminance(colour) -> float:
    """Relative luminance, WCAG 2.1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one, other) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def css_colours(dark: bool) -> dict[str, str]:
    environment = templating._environment()
    style, _, _ = environment.loader.get_source(environment, "style.css")
    roots = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    return dict(re.findall(r"--([a-z-]+): (#\w+)", roots[1 if dark else 0]))


@pytest.mark.parametrize("dark", [False, True])
def test_words_on_a_page_have_contrast(dark):
    """4.5 for text, WCAG 2.1, level AA."""
    colours = css_colours(dark)
    for name in ("ink", "muted", "accent"):
        for ground in ("page", "tint"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert contrast(colours["loud-ink"], colours["loud"]) >= 4.5


@pytest.mark.parametrize("dark", [False, True])
def test_lines_and_words_of_figures_have_contrast(dark):
    page = css_colours(dark)["page"]
    seen = {c: DARK[c] if dark else c for c in (plotting.INK, plotting.MUTED)}
    assert all(contrast(colour, page) >= 4.5 for colour in seen.values())
    series = [DARK[colour] if dark else colour for colour, _ in SERIES]
    assert all(contrast(colour, page) >= 3 for colour in series)  # of graphics
    assert len({marker for _, marker in SERIES}) == len(SERIES)


@pytest.mark.parametrize("share", np.linspace(0, 1, 21))
def test_numbers_in_cells_can_be_read_on_every_shade(share):
    shade = plotting.SHADES(share)
    assert contrast(plotting._readable_on(np.array(shade)), shade) >= 4.5


def test_shades_get_darker():
    """So that they say the same in grey, and to the colour-blind."""
    steps = [luminance(plotting.SHADES(share)) for share in np.linspace(0, 1, 50)]
    assert (np.diff(steps) < 0).all()


def two_panels(wide: bool):
    figure, axes = panels(wide, 2, columns=(2, 1), height=100)
    for panel in axes:
        panel.plot((0, 1), (1, 0), color=plotting.BLUE)
        panel.set_title("a < b & c")
    return figure


@pytest.fixture(scope="module")
def drawn() -> plotting.Picture:
    return picture(Drawing("name", "title", "alt", "note", two_panels))


def svg(uri: str) -> str:
    kind, content = uri.split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


def test_panels_stand_below_one_another_on_a_phone(drawn):
    assert drawn.wide_size == (plotting.WIDE, 100) and drawn.narrow_size == (plotting.NARROW, 200)
    assert drawn.pixels.shape == (200, 2 * plotting.WIDE, 3) and drawn.pixels.dtype == np.uint8


def test_svgs_are_text_that_follows_the_reader(drawn):
    for uri in (drawn.wide, drawn.narrow):
        root = xml.etree.ElementTree.fromstring(svg(uri))
        texts = ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]
        assert texts.count("a < b & c") == 2
        for light, dark in DARK.items():
            assert f'[style*="stroke: {light}"]{{stroke:{dark}!important}}' in svg(uri)
        assert f"stroke: {plotting.BLUE}" in svg(uri)


def test_equal_figures_are_equal_files(drawn):
    again = picture(drawn.drawing)
    assert (again.wide, again.narrow) == (drawn.wide, drawn.narrow)
    np.testing.assert_array_equal(again.pixels, drawn.pixels)


@pytest.mark.parametrize("size, side", [(256, 128), (64, 64)])
def test_thumbnails_are_jpegs_no_larger_than_asked(size, side):
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    face = np.broadcast_to(ramp[:, None, None], (size, size, 3))
    uri = plotting.jpeg(np.ascontiguousarray(face), 128)
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert image.format == "JPEG" and image.size == (side, side)
    seen = np.asarray(image).astype(float)
    assert abs(seen.mean() - face.mean()) < 3 and seen[0].mean() < 10 < 245 < seen[-1].mean()


def test_heat_lights_up_only_where_it_is():
    face = np.full((20, 20, 3), 100, np.uint8)
    heat = np.zeros((20, 20))
    heat[2:6, 14:18] = 1
    seen = faces.overlay(face, heat)
    np.testing.assert_array_equal(seen[heat == 0], face[heat == 0])
    assert (seen[heat == 1] != 100).any(axis=-1).all()
    assert faces.warmest(heat) == "upper right"
    assert faces.warmest(heat[::-1, ::-1]) == "lower left"
    assert faces.warmest(np.ones((20, 20))) == "middle"
    assert faces.warmest(np.zeros((20, 20))) == "nowhere"
