"""The pictures of the page on the three models, drawn by the project's own renderer.

python docs/pictures.py            # into docs/images
python docs/pictures.py --out DIR
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from affect_jax.core import labels
from affect_jax.facs import rig
from affect_jax.facs.action_units import TABLE
from affect_jax.facs.render.face import draw
from affect_jax.facs.render.identity import Person, Scene, draw_person, draw_scene
from affect_jax.facs.render.sample import Face, draw_face

SEED = 10
SIZE = 160  # of a face, pixels
PLACED = (0, 1, 2, 3, 4, 8, 6, 3)  # persons whose faces do not cover one another on the plane


def cast(number: int) -> tuple[Person, Scene]:
    """A person in plain light, looking ahead."""
    random = np.random.default_rng([SEED, number])
    person, scene = draw_person(random, rig.NUM_IDENTITY), draw_scene(random)
    return person, dataclasses.replace(scene, occlusion="none", grey=False, blur=1, noise=0.0)


def expressive(expression: int, person: int) -> Face:
    random = np.random.default_rng([SEED, person, expression])
    return draw_face(random, expression, *cast(person), SIZE)


def categorical() -> Figure:
    """The eight classes, each on a person of its own."""
    figure = Figure(figsize=(8, 1.3), layout="constrained")
    for i, axes in enumerate(figure.subplots(1, labels.NUM_CLASSES)):
        axes.imshow(expressive(i, i).image)
        axes.set_title(labels.EXPRESSIONS[i], fontsize=8)
        axes.axis("off")
    return figure


def dimensional() -> Figure:
    """Faces where their valence and arousal put them."""
    figure = Figure(figsize=(5.2, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), xlabel="valence", ylabel="arousal")
    axes.axhline(0, color="0.8", lw=1)
    axes.axvline(0, color="0.8", lw=1)
    turns = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(turns), np.sin(turns), color="0.8", lw=1)
    for i in range(labels.NUM_CLASSES):
        face = expressive(i, PLACED[i])
        place = (face.valence, face.arousal)
        axes.add_artist(AnnotationBbox(OffsetImage(face.image, zoom=0.25), place, pad=0.1))
        axes.text(place[0], place[1] - 0.18, labels.EXPRESSIONS[i], fontsize=7, ha="center")
    return figure


def action_units() -> Figure:
    """Each unit alone, at full intensity, on one person."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    person, scene = cast(2)
    for i, (unit, axes) in enumerate(zip(TABLE, figure.subplots(3, 6).flat, strict=True)):
        axes.imshow(draw(np.eye(len(TABLE))[i], person, scene, SIZE)[0])
        axes.set_title(f"AU{unit.number} {unit.name}", fontsize=7)
        axes.axis("off")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws the documentation's pictures.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/images"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    matplotlib.rcParams["font.family"] = "DejaVu Sans"  # ships with matplotlib
    for picture in (categorical, dimensional, action_units):
        path = out / f"{picture.__name__}.jpg"
        picture().savefig(path, dpi=120, pil_kwargs={"quality": 80, "optimize": True})
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
