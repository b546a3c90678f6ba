"""Draws faces from action units: persons, light, pose, RGB pixels.

    python -m affect_jax.facs.render --out sheet.png

writes the contact sheet: a row an expression, a column a person. Drawing is OpenCV's (polygons,
lines, blur, colour maps) on the 68 points of `facs.rig`; the parts of a face are in `facs.drawing`,
persons and scenes in `facs.identity`, labels in `facs.sample`.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

import cv2
import numpy as np

from affect_jax.core import labels
from affect_jax.core.cli import Parser, answering
from affect_jax.core.errors import UserError
from affect_jax.facs import rig
from affect_jax.facs.render.face import draw
from affect_jax.facs.render.identity import draw_person, draw_scene
from affect_jax.facs.render.sample import Face, draw_face, sample

__all__ = ["Face", "contact_sheet", "draw", "sample"]


def contact_sheet(
    seed: int = 10, persons: int = 8, size: int = 160, expressions: Sequence[int] = range(8)
) -> np.ndarray:
    """Rows of expressions, columns of persons, RGB uint8 [h, w, 3]; names at the rows' left.

    **Arguments:**

    - `seed`: of the persons, their scenes and the strength of each expression.
    - `size`: side of one face, pixels.
    """
    rows = []
    for expression in expressions:
        label = np.full((size, size // 5, 3), 255, np.uint8)
        text = np.full((size // 5, size, 3), 255, np.uint8)
        name = labels.EXPRESSIONS[expression]
        place = (size // 2 - 4 * len(name), size // 7)
        cv2.putText(
            text, name, place, cv2.FONT_HERSHEY_SIMPLEX, size / 360, (40, 40, 40), 1, cv2.LINE_AA
        )
        label[...] = cv2.rotate(text, cv2.ROTATE_90_COUNTERCLOCKWISE)
        rows.append([label])
        for column in range(persons):
            own = np.random.default_rng([seed, column])
            person, scene = draw_person(own, rig.NUM_IDENTITY), draw_scene(own)
            scene = dataclasses.replace(scene, occlusion="none", grey=False, blur=1, noise=0.0)
            rng = np.random.default_rng([seed, column, expression])
            rows[-1].append(draw_face(rng, expression, person, scene, size).image)
    return np.vstack([np.hstack(row) for row in rows])


@answering
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m affect_jax.facs.render", description="Writes a sheet of rendered faces."
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="PNG or JPEG file to write")
    parser.add_argument("--seed", type=int, default=10, help="of the persons")
    parser.add_argument("--persons", type=int, default=8)
    parser.add_argument("--size", type=int, default=160, help="side of one face, pixels")
    given = parser.parse_args(arguments)
    if given.out.suffix not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"--out={given.out}: name a .png or .jpg file")
    if given.seed < 0 or given.persons < 1 or not 16 <= given.size <= 1024:
        raise UserError("--seed must be 0 or more, --persons 1 or more, --size from 16 to 1024")
    write(contact_sheet(given.seed, given.persons, given.size), given.out)
    return 0


def write(sheet: np.ndarray, out: pathlib.Path) -> None:
    """An RGB picture, as PNG or JPEG by the file's ending; missing folders are made.

    **Raises:** `UserError` where it cannot be written.
    """
    quality = () if out.suffix == ".png" else (cv2.IMWRITE_JPEG_QUALITY, 85)
    done, data = cv2.imencode(out.suffix, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), quality)
    height, width = sheet.shape[:2]
    if not done:
        raise UserError(f"--out={out}: {width} x {height} pixels are too many for its kind of file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(data.tobytes())
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written ({error.strerror})") from error
    print(f"{out}: {width} x {height} pixels")


if __name__ == "__main__":
    sys.exit(main())
