"""Drawing: contrast, sizes and reproducibility."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_rgb

from affect_jax.core import plotting


def luminance(colour) -> float:
    """Relative luminance, WCAG 2.1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(first, second) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_lines_and_text_have_contrast():
    """At least 4.5 for text and 3 for graphics (WCAG 2.1, level AA)."""
    assert all(contrast(colour, "white") >= 4.5 for colour in (plotting.TEXT, plotting.MUTED))
    assert all(contrast(colour, "white") >= 3 for colour, _ in plotting.SERIES_STYLES)
    assert len({marker for _, marker in plotting.SERIES_STYLES}) == len(plotting.SERIES_STYLES)


def test_cells_get_darker_and_their_text_is_readable():
    """Larger values stay darker in greyscale and for colour-blind readers."""
    fractions = np.linspace(0, 1, 21)[None]
    panel = plotting.create_panel(400, 60)
    plotting.draw_cells(panel, fractions, np.full((1, 21), "1"), ["row"], [""] * 21)
    shades = [plotting.COLORMAP(fraction) for fraction in fractions[0]]
    assert (np.diff([luminance(shade) for shade in shades]) < 0).all()
    for text, shade in zip(panel.texts, shades, strict=True):
        assert contrast(text.get_color(), shade) >= 4.5


def test_many_cells_have_no_text_and_some_names():
    panel = plotting.create_panel(400, 400)
    names = [f"a long name of number {i}" for i in range(61)]
    plotting.draw_cells(panel, np.eye(61), np.full((61, 61), "1"), names, names)
    shown = [label.get_text() for label in panel.get_yticklabels()]
    assert shown == [plotting.truncate(name) for name in names[::3]] and not panel.texts


def test_cells_without_a_value_are_blank():
    def render(values: list[float]) -> np.ndarray:
        panel = plotting.create_panel(60, 60)
        plotting.draw_cells(panel, np.array([values]), np.array([["", ""]]), [""], ["", ""])
        return plotting.render(panel)

    assert (render([np.nan, np.nan]) == 255).mean() > 0.9 > (render([1, 1]) == 255).mean()


def test_rendering_is_reproducible_with_two_pixels_per_css_pixel():
    def render() -> np.ndarray:
        with plotting.style():
            panel = plotting.create_panel(100, 60, title="a < b")
            panel.plot((0, 1), (1, 0), color=plotting.BLUE)
            return plotting.render(panel)

    first = render()
    assert first.shape == (120, 200, 3) and first.dtype == np.uint8 and first.std() > 5
    np.testing.assert_array_equal(render(), first)
