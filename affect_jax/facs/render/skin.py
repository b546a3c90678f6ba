"""Draws the head: its outline, the relief of its static parts, neck, ears, and skin colours."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from affect_jax.facs.render import accessories, painting, scenery
from affect_jax.facs.render.mouth import Lips
from affect_jax.facs.render.person_and_scene import Person, Scene, SideIntensities
from affect_jax.facs.render.relief import (
    COLUMNS,
    FRONTAL_TONE,
    GRID_BOX,
    GRID_PER_UNIT,
    GRID_X,
    ROWS,
    Relief,
    light_direction,
    to_grid,
)

SIDES = (-1.0, 1.0)  # left and right side of the image
_TURN = np.linspace(0, np.pi, 13)[1:-1]
_SKULL = np.stack(
    [np.sign(np.cos(_TURN)) * np.abs(np.cos(_TURN)) ** 0.86, np.sin(_TURN) ** 0.9], axis=1
)


def trace_head(canvas: painting.Canvas, person: Person) -> np.ndarray:
    """Returns the closed outline [84, 2] of jaw and skull."""
    jaw = canvas.points[:17]
    middle = (jaw[0] + jaw[16]) / 2
    half = (jaw[16, 0] - jaw[0, 0]) / 2
    skull = middle + _SKULL * (1.04 * half, -(person.skull + middle[1]))
    return painting.curve(np.concatenate([jaw, skull]), closed=True, samples=84)


def sculpt_head(canvas: painting.Canvas, units: list[SideIntensities], person: Person) -> Relief:
    """Creates the relief with forehead, eye sockets, cheeks and chin.

    Other modules add nose, lids and lips.
    """
    points = canvas.points.tolist()
    middle = (points[0][0] + points[16][0]) / 2
    relief = Relief(canvas.points[:17], -person.skull)
    chin, chin_raise = points[8], units[0].chin
    seam = (points[62][1] + points[66][1]) / 2
    relief.add_hills(
        (0.3 * middle, -0.95, 0.62, 0.36, 0.05),
        (points[33][0], seam - 0.02, 0.40, 0.24, 0.10),
        (points[57][0], points[57][1] + 0.12, 0.22, 0.05, -0.05 - 0.02 * chin_raise),
        (chin[0], chin[1] - 0.24, 0.20, 0.13, 0.09 + 0.05 * chin_raise),
    )
    sides = zip(SIDES, units, ((17, 19, 21), (26, 24, 22)), (48, 54), strict=True)
    for side, side_units, (outer, arch, inner), corner in sides:
        outer, arch, inner, corner = (points[i] for i in (outer, arch, inner, corner))
        cheek_raise = max(side_units.smile, 0.8 * side_units.cheek)
        relief.add_hills(
            (side * 0.36, -0.98, 0.26, 0.22, 0.02),
            (side * 0.98, -0.42, 0.16, 0.26, -0.04),
            (arch[0] * 0.9, arch[1] + 0.06, 0.28, 0.09, 0.07),
            (inner[0] * 0.7, inner[1] + 0.08, 0.12, 0.09, 0.03 + 0.05 * side_units.frown),
            (side * 0.50, 0.02, 0.25, 0.13, -0.12),
            (side * 0.24, -0.02, 0.09, 0.11, -0.035),
            (side * 0.74, 0.36, 0.26, 0.17, 0.06),
            (
                side * (0.60 + 0.02 * cheek_raise),
                0.62 - 0.12 * cheek_raise,
                0.20,
                0.16,
                0.02 + 0.11 * cheek_raise,
            ),
            (side * 0.82, 0.98, 0.20, 0.28, -0.05 * person.gaunt - 0.02),
            (corner[0] + side * 0.13, corner[1], 0.09, 0.16, -0.04 - 0.03 * side_units.smile),
        )
    return relief


def draw_skin(
    canvas: painting.Canvas,
    relief: Relief,
    outline: np.ndarray,
    edges: Lips,
    person: Person,
    scene: Scene,
) -> None:
    """Draws the shaded neck, ears and head, with redder areas, and the lips."""
    neck, ears = scenery.trace_neck(canvas.rest_points), _trace_ears(canvas.rest_points, person)
    window = canvas.bounding_window(np.concatenate([neck, *ears, outline]))
    if window is None:
        return
    part = canvas.crop(window)
    tone = _neck_and_ear_tones(ears, outline, scene)
    head = np.zeros_like(tone)
    expanded = outline * np.where(outline[:, 1:] < 0, 1.04, 1.0)  # hides the edge of the skull
    cv2.fillPoly(head, [to_grid(expanded)], (255,), cv2.LINE_AA, painting.FIXED_POINT_BITS)
    blend_tones(tone, relief.shade(scene, person.gloss), cv2.blur(head, (3, 3)))
    coloured = cv2.applyColorMap(tone, _skin_colour_map(person.skin))
    coloured = cv2.subtract(
        coloured, cv2.applyColorMap(_blood_map(), _blood_absorption_map(person))
    )
    rgba = cv2.cvtColor(coloured, cv2.COLOR_RGB2RGBA)  # OpenCV is faster with four channels
    warped = part.warp_to_image(cv2.insertChannel(tone, rgba, 3), GRID_BOX)
    coloured, tone = cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB), cv2.extractChannel(warped, 3)
    if person.freckles:
        _draw_freckles(coloured, part, person)
    if person.beard != "none":
        _tint_beard(coloured, tone, part, person)
    _paint_lips(coloured, tone, part, edges, person)
    painting.blend_over(canvas.image[window], coloured, part.coverage_mask(outline, neck, *ears))


def blend_tones(below: np.ndarray, above: np.ndarray, mask: np.ndarray) -> None:
    """Blends tones `above` over `below` in place; all are uint8 [h, w]."""
    above = cv2.multiply(above, mask, scale=1 / 255)
    cv2.add(cv2.multiply(below, cv2.bitwise_not(mask), scale=1 / 255), above, dst=below)


def _paint_lips(
    coloured: np.ndarray,
    tone: np.ndarray,
    part: painting.Canvas,
    edges: Lips,
    person: Person,
) -> None:
    window = part.bounding_window(np.concatenate([edges.top, edges.bottom]))
    if window is None:
        return
    inside = part.crop(window)
    mask = cv2.blur(inside.coverage_mask(*edges.outlines()), (3, 3))
    painted = cv2.applyColorMap(np.ascontiguousarray(tone[window]), _skin_colour_map(person.lips))
    painting.blend_over(coloured[window], painted, mask)


def _blood_absorption_map(person: Person) -> np.ndarray:
    """Colour map of the light that blood absorbs, by the amount of blood."""
    _, green, blue = person.skin
    strength = min(1.0, 0.15 + 0.6 * person.blush)
    return painting.colour_map(
        (0, (0.0, 0.0, 0.0)), (255, (0.0, 0.19 * strength * green, 0.19 * strength * blue))
    )


def _draw_freckles(coloured: np.ndarray, part: painting.Canvas, person: Person) -> None:
    """Draws freckles."""
    centres = np.random.default_rng(person.hair_seed).normal((0.0, 0.40), (0.42, 0.13), (44, 2))
    colour = painting.mix_colours(person.skin, (150, 70, 40), 0.45)
    for centre in part.to_fixed_point(centres).tolist():
        cv2.circle(coloured, centre, 11, colour, -1, cv2.LINE_AA, painting.FIXED_POINT_BITS)


def _tint_beard(
    coloured: np.ndarray, tone: np.ndarray, part: painting.Canvas, person: Person
) -> None:
    """Tints the skin under a beard, with grain that looks like single hairs."""
    stubble = person.beard == "stubble"
    mask = part.coverage_mask(*accessories.trace_beard(part, person))
    mask = painting.blur_mask(mask, (0.06 if stubble else 0.035) * part.unit)
    height, width = mask.shape
    hairs = scenery.grain_sheet()[person.hair_seed % 64 :, person.hair_seed % 64 :][
        :height, :width, 0
    ]
    mask = cv2.multiply(mask, hairs // 2 + 64, scale=(0.5 if stubble else 0.9) / 128)
    colour = (
        painting.mix_colours(person.skin, person.hair, 0.75)
        if stubble
        else painting.scale_colour(person.hair, 0.85)
    )
    painting.blend_over(
        coloured, cv2.applyColorMap(cv2.subtract(tone, hairs // 6), _skin_colour_map(colour)), mask
    )


def _skin_colour_map(skin: painting.Colour) -> np.ndarray:
    """Colour map of skin; dark tones are warmer because of subsurface scattering."""
    red, green, blue = skin
    return painting.colour_map(
        (0, (0.10 * red, 0.05 * green, 0.04 * blue)),
        (52, (0.47 * red, 0.33 * green, 0.27 * blue)),
        (92, (0.78 * red, 0.68 * green, 0.63 * blue)),
        (FRONTAL_TONE, skin),
        (
            190,
            painting.mix_colours(painting.scale_colour(skin, 1.10), (255, 240, 226), 0.22),
        ),
        (
            255,
            painting.mix_colours(painting.scale_colour(skin, 1.18), (255, 250, 242), 0.58),
        ),
    )


_NECK_X = np.clip(GRID_X / 0.95, -0.98, 0.98)  # surface normal of a cylinder
_NECK_Z = np.sqrt(1 - _NECK_X**2)
# No shadow on the last row, because it is repeated below the grid.
_FADE = np.repeat(np.minimum(18 * np.arange(ROWS)[::-1, None], 255), COLUMNS, 1).astype(np.uint8)


def _neck_and_ear_tones(ears: list[np.ndarray], outline: np.ndarray, scene: Scene) -> np.ndarray:
    """Tones [ROWS, COLUMNS] of neck and ears: a lit cylinder with the shadow of the head."""
    x, _, z = light_direction(scene)
    facing = np.maximum(x * _NECK_X + z * _NECK_Z, 0.0)
    row = FRONTAL_TONE * (scene.ambient + (1 - scene.ambient) * facing) - 10
    tone = np.empty((ROWS, COLUMNS), np.uint8)
    tone[:] = row.clip(0, 255).astype(np.uint8)
    shade = np.zeros((ROWS // 2, COLUMNS // 2), np.uint8)
    jaw = outline[6:43]
    jaw_shadow = np.concatenate([jaw - (0.0, 0.1), jaw[::-1] * (0.9, 1.0) + (0.0, 0.16)])
    cv2.fillPoly(shade, [to_grid(jaw_shadow)], (64,), cv2.LINE_AA, painting.FIXED_POINT_BITS + 1)
    for ear, side in zip(ears, SIDES, strict=True):
        brightness = (
            FRONTAL_TONE * (scene.ambient + (1 - scene.ambient) * max(0.0, z + 0.6 * side * x)) - 6
        )
        cv2.fillPoly(
            tone,
            [to_grid(ear)],
            (int(brightness),),
            cv2.LINE_AA,
            painting.FIXED_POINT_BITS,
        )
        middle = (ear[0] + ear[12]) / 2
        inner_ear = to_grid((ear - middle) * (0.5, 0.62) + middle)
        cv2.fillPoly(shade, [inner_ear], (52,), cv2.LINE_AA, painting.FIXED_POINT_BITS + 1)
    shade = cv2.resize(painting.blur_mask(shade, 0.03 * GRID_PER_UNIT), (COLUMNS, ROWS))
    return cv2.subtract(tone, cv2.multiply(shade, _FADE, scale=1 / 255))


_BLOOD_AREAS = (
    (-0.68, 0.56, 0.27, 0.18),
    (0.68, 0.56, 0.27, 0.18),
    (0.0, 0.62, 0.18, 0.12),
    (0.0, 1.54, 0.16, 0.10),
)  # cheeks, nose, chin: centre x and y, half width, half height


@functools.cache
def _blood_map() -> np.ndarray:
    """Amount of visible blood in the skin, uint8 [ROWS, COLUMNS]."""
    amount = np.zeros((ROWS, COLUMNS), np.float32)
    for x, y, half_width, half_height in _BLOOD_AREAS:
        cv2.fillPoly(
            amount,
            [to_grid(painting.ellipse((x, y), (half_width, half_height)))],
            (255,),
            cv2.LINE_AA,
            painting.FIXED_POINT_BITS,
        )
    return cv2.GaussianBlur(amount, (0, 0), 0.09 * GRID_PER_UNIT).astype(np.uint8)


def _trace_ears(points: np.ndarray, person: Person) -> list[np.ndarray]:
    half_height = 0.28 * person.ears
    left = painting.ellipse(points[0] + (-0.02, 0.2), (0.13, half_height), 0.15)
    right = painting.ellipse(points[16] + (0.02, 0.2), (0.13, half_height), -0.15)
    return [left, right]
