"""Adds the nose to the relief of the skin: bridge, tip, wings and nostrils."""

from __future__ import annotations

import numpy as np

from affect_jax.facs.render import painting
from affect_jax.facs.render.person_and_scene import Person, SideIntensities
from affect_jax.facs.render.relief import Relief

_ALONG = np.linspace(0, 1, 9)[:, None]
SIDES = ((-1.0, 31, 32), (1.0, 35, 34))


def sculpt_nose(
    relief: Relief, canvas: painting.Canvas, units: list[SideIntensities], person: Person
) -> None:
    points = canvas.points
    root, tip, base = points[27], points[30], points[33]
    bridge = root + _ALONG * (tip - root)
    relief.add_ridge(bridge[:5], 0.105, 0.10)
    relief.add_ridge(bridge[4:], 0.115, 0.19)
    relief.add_hills(
        (tip[0], tip[1] + 0.05, 0.095, 0.085, 0.13),
        (base[0], base[1] - 0.02, 0.05, 0.04, 0.04),
        ((base[0] + points[51, 0]) / 2, (base[1] + points[51, 1]) / 2 + 0.02, 0.032, 0.09, -0.03),
    )
    rims = []
    for (side, wing, nostril), side_units in zip(SIDES, units, strict=True):
        flare = 1.0 + 0.3 * max(side_units.nose, 0.6 * side_units.upper_lip)
        (x, y), (base_x, base_y) = points[wing].tolist(), points[nostril].tolist()
        relief.add_hills(
            (x - side * 0.045, y - 0.02, 0.055 * flare, 0.06, 0.10),
            (x - side * 0.07, y - 0.16, 0.05, 0.05, 0.02),
        )
        rims.append(
            [
                (x - side * 0.055, y - 0.155),
                (x + side * 0.04 * flare, y - 0.07),
                (x + side * 0.025, y + 0.025),
            ]
        )
        centre = (0.62 * base_x + 0.38 * x, 0.62 * base_y + 0.38 * y - 0.004)
        relief.add_shadow_ellipse((centre[0], centre[1] + 0.03), (0.08, 0.025), 0.0, 0.12)
        radii = (0.052 * person.nostrils * flare, 0.024 * person.nostrils)
        relief.add_shadow_ellipse(centre, radii, side * -23.0, 0.9)
    relief.add_creases(painting.curves(np.array(rims), samples=8), (0.4, 0.4))
