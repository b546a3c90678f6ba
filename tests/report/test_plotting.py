"""Figure style and rendering: contrast, reproducibility, wide and narrow layouts."""

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
from affect_jax.report.plotting import (
    DARK_MODE,
    SERIES_STYLES,
    FigureSpec,
    create_panels,
    render_figure,
)


def luminance(colour) -> float:
    """Relative luminance, WCAG 2.1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(first, second) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def css_colours(dark: bool) -> dict[str, str]:
    environment = templating._environment()
    style, _, _ = environment.loader.get_source(environment, "style.css")
    roots = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    return dict(re.findall(r"--([a-z-]+): (#\w+)", roots[1 if dark else 0]))


@pytest.mark.parametrize("dark", [False, True])
def test_page_text_has_contrast(dark):
    """At least 4.5 for text (WCAG 2.1, level AA)."""
    colours = css_colours(dark)
    for name in ("ink", "muted", "accent"):
        for background in ("page", "tint"):
            assert contrast(colours[name], colours[background]) >= 4.5, (name, background)
    assert contrast(colours["warning-ink"], colours["warning"]) >= 4.5


@pytest.mark.parametrize("dark", [False, True])
def test_figure_lines_and_text_have_contrast(dark):
    page = css_colours(dark)["page"]
    pixels = {c: DARK_MODE[c] if dark else c for c in (plotting.TEXT, plotting.MUTED)}
    assert all(contrast(colour, page) >= 4.5 for colour in pixels.values())
    series = [DARK_MODE[colour] if dark else colour for colour, _ in SERIES_STYLES]
    assert all(contrast(colour, page) >= 3 for colour in series)  # for graphics
    assert len({marker for _, marker in SERIES_STYLES}) == len(SERIES_STYLES)


@pytest.mark.parametrize("share", np.linspace(0, 1, 21))
def test_cell_text_is_readable_on_every_shade(share):
    shade = plotting.COLORMAP(share)
    assert contrast(plotting._readable_text_colour(np.array(shade)), shade) >= 4.5


def test_colormap_gets_darker():
    """Larger values stay darker in greyscale and for colour-blind readers."""
    steps = [luminance(plotting.COLORMAP(share)) for share in np.linspace(0, 1, 50)]
    assert (np.diff(steps) < 0).all()


def two_panels(wide: bool):
    figure, axes = create_panels(wide, 2, columns=(2, 1), height=100)
    for panel in axes:
        panel.plot((0, 1), (1, 0), color=plotting.BLUE)
        panel.set_title("a < b & c")
    return figure


@pytest.fixture(scope="module")
def figure() -> plotting.RenderedFigure:
    return render_figure(FigureSpec("name", "title", "alt", "note", two_panels))


def svg(uri: str) -> str:
    kind, content = uri.split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


def test_panels_are_stacked_on_a_phone(figure):
    assert figure.wide_size == (plotting.WIDE_WIDTH, 100) and figure.narrow_size == (
        plotting.NARROW_WIDTH,
        200,
    )
    assert (
        figure.pixels.shape == (200, 2 * plotting.WIDE_WIDTH, 3) and figure.pixels.dtype == np.uint8
    )


def test_svgs_have_text_and_dark_mode_colours(figure):
    for uri in (figure.wide, figure.narrow):
        root = xml.etree.ElementTree.fromstring(svg(uri))
        texts = ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]
        assert texts.count("a < b & c") == 2
        for light, dark in DARK_MODE.items():
            assert f'[style*="stroke: {light}"]{{stroke:{dark}!important}}' in svg(uri)
        assert f"stroke: {plotting.BLUE}" in svg(uri)


def test_rendering_is_reproducible(figure):
    again = render_figure(figure.spec)
    assert (again.wide, again.narrow) == (figure.wide, figure.narrow)
    np.testing.assert_array_equal(again.pixels, figure.pixels)


@pytest.mark.parametrize("size, side", [(256, 128), (64, 64)])
def test_thumbnails_are_jpegs_of_limited_size(size, side):
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    face = np.broadcast_to(ramp[:, None, None], (size, size, 3))
    uri = plotting.encode_jpeg(np.ascontiguousarray(face), 128)
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert image.format == "JPEG" and image.size == (side, side)
    pixels = np.asarray(image).astype(float)
    assert abs(pixels.mean() - face.mean()) < 3 and pixels[0].mean() < 10 < 245 < pixels[-1].mean()


def test_heatmap_overlay_changes_only_warm_regions():
    face = np.full((20, 20, 3), 100, np.uint8)
    heat = np.zeros((20, 20))
    heat[2:6, 14:18] = 1
    pixels = faces.overlay_heatmap(face, heat)
    np.testing.assert_array_equal(pixels[heat == 0], face[heat == 0])
    assert (pixels[heat == 1] != 100).any(axis=-1).all()
    assert faces.describe_warmest_region(heat) == "upper right"
    assert faces.describe_warmest_region(heat[::-1, ::-1]) == "lower left"
    assert faces.describe_warmest_region(np.ones((20, 20))) == "middle"
    assert faces.describe_warmest_region(np.zeros((20, 20))) == "nowhere"
