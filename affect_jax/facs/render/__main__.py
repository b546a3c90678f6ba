"""Command that writes a contact sheet of rendered faces.

    python -m affect_jax.facs.render --out sheet.png

Rows are expressions, columns are persons. `renderer` draws a face with OpenCV (polygons, lines,
blur, colour maps) on the 68 points of `facs.rig`. `parameters` names what varies between faces,
`random_face` samples labels.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

import cv2
import numpy as np

from affect_jax.core import labels
from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.core.errors import UserError
from affect_jax.core.paths import writing_to
from affect_jax.facs.render.parameters import random_parameters
from affect_jax.facs.render.random_face import render_expression

MAX_WIDTH = 65_500  # pixels, of a JPEG


def draw_contact_sheet(seed: int = 10, persons: int = 8, size: int = 160) -> np.ndarray:
    """Draws rows of expressions and columns of persons: RGB uint8 [h, w, 3].

    The names of the expressions are at the left; `size` is the side of one face, pixels.
    """
    rows = []
    for expression, name in enumerate(labels.EXPRESSIONS[: labels.NUM_CLASSES]):
        text = np.full((size // 5, size, 3), 255, np.uint8)
        start = (size // 2 - 4 * len(name), size // 7)
        cv2.putText(text, name, start, cv2.FONT_HERSHEY_SIMPLEX, size / 360, (40, 40, 40), 1)
        rows.append([cv2.rotate(text, cv2.ROTATE_90_COUNTERCLOCKWISE)])
        for column in range(persons):
            person = random_parameters(np.random.default_rng([seed, column]))
            person = dataclasses.replace(person, occlusion="none", blur=0.0)
            rng = np.random.default_rng([seed, column, expression])
            rows[-1].append(render_expression(rng, expression, person, size).image)
    return np.vstack([np.hstack(row) for row in rows])


@handle_cli_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(
        prog="python -m affect_jax.facs.render",
        description="Writes a contact sheet of rendered faces.",
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="PNG or JPEG file to write")
    parser.add_argument("--seed", type=int, default=10, help="seed of the persons")
    parser.add_argument("--persons", type=int, default=8, help="number of persons (columns)")
    parser.add_argument("--size", type=int, default=160, help="side of one face, pixels")
    args = parser.parse_args(argv)
    if args.out.suffix not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"--out={args.out}: name a .png or .jpg file")
    if args.seed < 0 or args.persons < 1 or not 16 <= args.size <= 1024:
        raise UserError("--seed must be 0 or more, --persons 1 or more, --size from 16 to 1024")
    if (args.persons + 1) * args.size > MAX_WIDTH:
        raise UserError(f"--persons, --size: the sheet must be at most {MAX_WIDTH:,} pixels wide")
    image = draw_contact_sheet(args.seed, args.persons, args.size)
    with writing_to(args.out.parent):
        args.out.write_bytes(cv2.imencode(args.out.suffix, image[..., ::-1])[1].tobytes())
    print(f"{args.out}: {image.shape[1]} x {image.shape[0]} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
