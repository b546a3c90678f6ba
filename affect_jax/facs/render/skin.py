"""The head: its outline, the relief of what does not move much, neck and ears, and its colours."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from affect_jax.facs.render import accessories, painting, scenery
from affect_jax.facs.render.identity import Person, Scene, Units
from affect_jax.facs.render.mouth import Lips
from affect_jax.facs.render.relief import (
    BOX,
    COLUMNS,
    LEVEL,
    PER_UNIT,
    ROWS,
    Relief,
    X,
    fixed,
    towards,
)

Knots = list[list[float]]  # points as plain numbers: faster than arrays of two
SIDES = (-1.0, 1.0)  # the picture's left and right
_TURN = np.linspace(0, np.pi, 13)[1:-1]
_SKULL = np.stack(
    [np.sign(np.cos(_TURN)) * np.abs(np.cos(_TURN)) ** 0.86, np.sin(_TURN) ** 0.9], axis=1
)


def head_outline(canvas: painting.Canvas, person: Person) -> np.ndarray:
    """Closed outline [84, 2] of jaw and skull."""
    jaw = canvas.points[:17]
    middle = (jaw[0] + jaw[16]) / 2
    half = (jaw[16, 0] - jaw[0, 0]) / 2
    skull = middle + _SKULL * (1.04 * half, -(person.skull + middle[1]))
    return painting.curve(np.concatenate([jaw, skull]), closed=True, samples=84)


def sculpt_head(canvas: painting.Canvas, units: list[Units], person: Person) -> Relief:
    """The relief of forehead, sockets, cheeks and chin; nose, lids and lips are added by others."""
    points = canvas.points.tolist()
    middle = (points[0][0] + points[16][0]) / 2
    relief = Relief(canvas.points[:17], -person.skull)
    chin, rise = points[8], units[0].chin
    seam = (points[62][1] + points[66][1]) / 2
    relief.hills(
        (0.3 * middle, -0.95, 0.62, 0.36, 0.05),
        (points[33][0], seam - 0.02, 0.40, 0.24, 0.10),
        (points[57][0], points[57][1] + 0.12, 0.22, 0.05, -0.05 - 0.02 * rise),
        (chin[0], chin[1] - 0.24, 0.20, 0.13, 0.09 + 0.05 * rise),
    )
    places = zip(SIDES, units, ((17, 19, 21), (26, 24, 22)), (48, 54), strict=True)
    for side, own, (outer, arch, inner), corner in places:
        outer, arch, inner, corner = (points[i] for i in (outer, arch, inner, corner))
        apple = max(own.smile, 0.8 * own.cheek)
        relief.hills(
            (side * 0.36, -0.98, 0.26, 0.22, 0.02),
            (side * 0.98, -0.42, 0.16, 0.26, -0.04),
            (arch[0] * 0.9, arch[1] + 0.06, 0.28, 0.09, 0.07),
            (inner[0] * 0.7, inner[1] + 0.08, 0.12, 0.09, 0.03 + 0.05 * own.frown),
            (side * 0.50, 0.02, 0.25, 0.13, -0.12),
            (side * 0.24, -0.02, 0.09, 0.11, -0.035),
            (side * 0.74, 0.36, 0.26, 0.17, 0.06),
            (side * (0.60 + 0.02 * apple), 0.62 - 0.12 * apple, 0.20, 0.16, 0.02 + 0.11 * apple),
            (side * 0.82, 0.98, 0.20, 0.28, -0.05 * person.gaunt - 0.02),
            (corner[0] + side * 0.13, corner[1], 0.09, 0.16, -0.04 - 0.03 * own.smile),
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
    """Neck, ears and head in their light, redder where blood shows, and the lips."""
    neck, ears = scenery.neck_outline(canvas.rest), _ears(canvas.rest, person)
    window = canvas.window(np.concatenate([neck, *ears, outline]))
    if window is None:
        return
    part = canvas.within(window)
    tone = _tone_below(ears, outline, scene)
    head = np.zeros_like(tone)
    wide = outline * np.where(outline[:, 1:] < 0, 1.04, 1.0)  # no edge of the skull's colour
    cv2.fillPoly(head, [fixed(wide)], (255,), cv2.LINE_AA, painting.SHIFT)
    lay(tone, relief.lit(scene, person.gloss), cv2.blur(head, (3, 3)))
    coloured = cv2.applyColorMap(tone, _colours(person.skin))
    coloured = cv2.subtract(coloured, cv2.applyColorMap(_blood(), _lost(person)))
    four = cv2.cvtColor(coloured, cv2.COLOR_RGB2RGBA)  # of four channels OpenCV makes short work
    warped = part.warp(cv2.insertChannel(tone, four, 3), BOX)
    coloured, tone = cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB), cv2.extractChannel(warped, 3)
    if person.freckles:
        _spot(coloured, part, person)
    if person.beard != "none":
        _grow_beard(coloured, tone, part, person)
    _paint_lips(coloured, tone, part, edges, person)
    painting.blend(canvas.image[window], coloured, part.mask(outline, neck, *ears))


def lay(below: np.ndarray, above: np.ndarray, mask: np.ndarray) -> None:
    """Lays tones over others, all uint8 [h, w], in place."""
    above = cv2.multiply(above, mask, scale=1 / 255)
    cv2.add(cv2.multiply(below, cv2.bitwise_not(mask), scale=1 / 255), above, dst=below)


def _paint_lips(
    coloured: np.ndarray, tone: np.ndarray, part: painting.Canvas, edges: Lips, person: Person
) -> None:
    window = part.window(np.concatenate([edges.top, edges.bottom]))
    if window is None:
        return
    inside = part.within(window)
    mask = cv2.blur(inside.mask(*edges.outlines()), (3, 3))
    painted = cv2.applyColorMap(np.ascontiguousarray(tone[window]), _colours(person.lips))
    painting.blend(coloured[window], painted, mask)


def _lost(person: Person) -> np.ndarray:
    """Colour map of the light that blood takes away, by how much of it there is."""
    _, green, blue = person.skin
    share = min(1.0, 0.15 + 0.6 * person.blush)
    return painting.ramp(
        (0, (0.0, 0.0, 0.0)), (255, (0.0, 0.19 * share * green, 0.19 * share * blue))
    )


def _spot(coloured: np.ndarray, part: painting.Canvas, person: Person) -> None:
    """Freckles."""
    places = np.random.default_rng(person.hair_seed).normal((0.0, 0.40), (0.42, 0.13), (44, 2))
    colour = painting.mix(person.skin, (150, 70, 40), 0.45)
    for place in part.fixed(places).tolist():
        cv2.circle(coloured, place, 11, colour, -1, cv2.LINE_AA, painting.SHIFT)


def _grow_beard(
    coloured: np.ndarray, tone: np.ndarray, part: painting.Canvas, person: Person
) -> None:
    """Colours the skin under a beard, unevenly, as single hairs would."""
    stubble = person.beard == "stubble"
    mask = part.mask(*accessories.beard_outlines(part, person))
    mask = painting.softened(mask, (0.06 if stubble else 0.035) * part.unit)
    height, width = mask.shape
    hairs = scenery.grain()[person.hair_seed % 64 :, person.hair_seed % 64 :][:height, :width, 0]
    mask = cv2.multiply(mask, hairs // 2 + 64, scale=(0.5 if stubble else 0.9) / 128)
    colour = (
        painting.mix(person.skin, person.hair, 0.75)
        if stubble
        else painting.scaled(person.hair, 0.85)
    )
    painting.blend(
        coloured, cv2.applyColorMap(cv2.subtract(tone, hairs // 6), _colours(colour)), mask
    )


def _colours(skin: painting.Colour) -> np.ndarray:
    """Colour map of skin: warm in the shade, as light that went through it is."""
    red, green, blue = skin
    return painting.ramp(
        (0, (0.10 * red, 0.05 * green, 0.04 * blue)),
        (52, (0.47 * red, 0.33 * green, 0.27 * blue)),
        (92, (0.78 * red, 0.68 * green, 0.63 * blue)),
        (LEVEL, skin),
        (190, painting.mix(painting.scaled(skin, 1.10), (255, 240, 226), 0.22)),
        (255, painting.mix(painting.scaled(skin, 1.18), (255, 250, 242), 0.58)),
    )


_NECK_X = np.clip(X / 0.95, -0.98, 0.98)  # where a cylinder's surface faces
_NECK_Z = np.sqrt(1 - _NECK_X**2)
# No shadow on the last row, which is repeated below the grid.
_FADE = np.repeat(np.minimum(18 * np.arange(ROWS)[::-1, None], 255), COLUMNS, 1).astype(np.uint8)


def _tone_below(ears: list[np.ndarray], outline: np.ndarray, scene: Scene) -> np.ndarray:
    """Tones [ROWS, COLUMNS] of neck and ears: a cylinder in the light, the head's shadow on it."""
    x, _, z = towards(scene)
    facing = np.maximum(x * _NECK_X + z * _NECK_Z, 0.0)
    row = LEVEL * (scene.ambient + (1 - scene.ambient) * facing) - 10
    tone = np.empty((ROWS, COLUMNS), np.uint8)
    tone[:] = row.clip(0, 255).astype(np.uint8)
    shade = np.zeros((ROWS // 2, COLUMNS // 2), np.uint8)
    jaw = outline[6:43]
    under = np.concatenate([jaw - (0.0, 0.1), jaw[::-1] * (0.9, 1.0) + (0.0, 0.16)])
    cv2.fillPoly(shade, [fixed(under)], (64,), cv2.LINE_AA, painting.SHIFT + 1)
    for ear, side in zip(ears, SIDES, strict=True):
        bright = LEVEL * (scene.ambient + (1 - scene.ambient) * max(0.0, z + 0.6 * side * x)) - 6
        cv2.fillPoly(tone, [fixed(ear)], (int(bright),), cv2.LINE_AA, painting.SHIFT)
        middle = (ear[0] + ear[12]) / 2
        shell = fixed((ear - middle) * (0.5, 0.62) + middle)
        cv2.fillPoly(shade, [shell], (52,), cv2.LINE_AA, painting.SHIFT + 1)
    shade = cv2.resize(painting.softened(shade, 0.03 * PER_UNIT), (COLUMNS, ROWS))
    return cv2.subtract(tone, cv2.multiply(shade, _FADE, scale=1 / 255))


_SPOTS = (
    (-0.68, 0.56, 0.27, 0.18),
    (0.68, 0.56, 0.27, 0.18),
    (0.0, 0.62, 0.18, 0.12),
    (0.0, 1.54, 0.16, 0.10),
)  # where blood shows, cheeks, nose, chin: centre x and y, half a width, half a height


@functools.cache
def _blood() -> np.ndarray:
    """Where skin is redder, uint8 [ROWS, COLUMNS]."""
    red = np.zeros((ROWS, COLUMNS), np.float32)
    for x, y, wide, tall in _SPOTS:
        cv2.fillPoly(
            red,
            [fixed(painting.ellipse((x, y), (wide, tall)))],
            (255,),
            cv2.LINE_AA,
            painting.SHIFT,
        )
    return cv2.GaussianBlur(red, (0, 0), 0.09 * PER_UNIT).astype(np.uint8)


def _ears(points: np.ndarray, person: Person) -> list[np.ndarray]:
    reach = 0.28 * person.ears
    left = painting.ellipse(points[0] + (-0.02, 0.2), (0.13, reach), 0.15)
    right = painting.ellipse(points[16] + (0.02, 0.2), (0.13, reach), -0.15)
    return [left, right]
