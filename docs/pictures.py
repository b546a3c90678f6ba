"""Renders the pictures of README.md and of models.md, recipes.md and ready_model.md in docs.

python docs/pictures.py            # writes to docs/images
python docs/pictures.py --out DIR
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from affect_jax import Predictor
from affect_jax.core import labels
from affect_jax.core.batch import make_targets
from affect_jax.data import augment_faces, augment_pairs  # noqa: F401  # registers its entries
from affect_jax.data.augment import AUGMENTATIONS, apply_augmentations, create_augmentations
from affect_jax.facs.action_units import ACTION_UNITS
from affect_jax.facs.render.parameters import FaceParameters, random_parameters
from affect_jax.facs.render.random_face import RenderedFace, render_expression
from affect_jax.facs.render.renderer import render_face

SEED = 10
IMAGE_SIZE = 160  # of a face, in pixels
PEOPLE_ON_PLANE = (8, 1, 0, 7, 2, 4, 5, 3)  # chosen so that faces do not overlap on the plane


def random_person(number: int) -> FaceParameters:
    """Samples a person by number, in a sharp picture without occlusion."""
    parameters = random_parameters(np.random.default_rng([SEED, number]))
    return dataclasses.replace(parameters, occlusion="none", blur=0.0)


def render_person(expression: int, person: int) -> RenderedFace:
    """Renders an expression of a person, by its number."""
    random = np.random.default_rng([SEED, person, expression])
    return render_expression(random, expression, random_person(person), IMAGE_SIZE)


def contact_sheet() -> Figure:
    """Draws all classes (rows) of eight people (columns)."""
    figure = Figure(figsize=(10.8, 10.8), layout="constrained")
    figure.get_layout_engine().set(w_pad=0, h_pad=0, wspace=0, hspace=0)
    grid = figure.subplots(labels.NUM_CLASSES, 8)
    for (expression, person), axes in np.ndenumerate(grid):
        axes.imshow(render_person(expression, person).image)
        axes.set(xticks=[], yticks=[], frame_on=False)
        if not person:
            axes.set_ylabel(labels.EXPRESSIONS[expression])
    return figure


def categorical() -> Figure:
    """Draws the eight classes, each with another person."""
    figure = Figure(figsize=(8, 1.3), layout="constrained")
    for i, axes in enumerate(figure.subplots(1, labels.NUM_CLASSES)):
        axes.imshow(render_person(i, i).image)
        axes.set_title(labels.EXPRESSIONS[i], fontsize=8)
        axes.axis("off")
    return figure


def dimensional() -> Figure:
    """Draws faces on the plane of valence and arousal."""
    figure = Figure(figsize=(5.2, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), xlabel="valence", ylabel="arousal")
    axes.axhline(0, color="0.8", lw=1)
    axes.axvline(0, color="0.8", lw=1)
    angles = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(angles), np.sin(angles), color="0.8", lw=1)
    for i in range(labels.NUM_CLASSES):
        face = render_person(i, PEOPLE_ON_PLANE[i])
        point = (face.valence, face.arousal)
        axes.add_artist(AnnotationBbox(OffsetImage(face.image, zoom=0.25), point, pad=0.1))
        axes.text(point[0], point[1] - 0.18, labels.EXPRESSIONS[i], fontsize=7, ha="center")
    return figure


def action_units() -> Figure:
    """Draws each unit alone, at full intensity, on one person."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    person = FaceParameters()
    for i, ((unit, name), axes) in enumerate(
        zip(ACTION_UNITS.items(), figure.subplots(3, 6).flat, strict=True)
    ):
        axes.imshow(render_face(np.eye(len(ACTION_UNITS))[i], person, IMAGE_SIZE)[0])
        axes.set_title(f"AU{unit} {name}", fontsize=7)
        axes.axis("off")
    return figure


def augmentations() -> Figure:
    """Draws each augmentation in a row of faces; the first row shows the faces without any."""
    options = {
        "affine": {"degrees": 20, "scale": (0.8, 1.2), "translate": 0.1, "shear": 10},
        "colour_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
        "mixup": {"alpha": 1.0},
    }
    faces = np.stack([render_person(i, i).image for i in range(6)])
    targets = make_targets({"expression": np.arange(6)})
    keys = jax.random.split(jax.random.key(SEED), 6)
    rows = {"none": faces}
    for name in AUGMENTATIONS.names():
        spec = {"name": name, "probability": 1.0, **options.get(name, {})}
        augment = create_augmentations([spec], labels.NUM_CLASSES)
        rows[name] = apply_augmentations(augment, jnp.asarray(faces), targets, keys)[0]
    figure = Figure(figsize=(6.4, 0.85 * len(rows)), layout="constrained")
    for (name, row), all_axes in zip(rows.items(), figure.subplots(len(rows), 6), strict=True):
        for face, axes in zip(row, all_axes, strict=True):
            axes.imshow(np.asarray(face))
            axes.set(xticks=[], yticks=[])
        all_axes[0].set_ylabel(name.replace("_", "\n"), fontsize=7)
    return figure


def ready_failures() -> Figure:
    """Draws rendered faces of all classes with the prediction of the model in the package."""
    expressions = np.tile(np.arange(labels.NUM_CLASSES), 2)
    faces = [render_person(expression, i).image for i, expression in enumerate(expressions)]
    prediction = Predictor.load(detector="none").predict(faces)
    assert prediction.expression is not None
    figure = Figure(figsize=(8, 2.9), layout="constrained")
    for i, axes in enumerate(figure.subplots(2, labels.NUM_CLASSES).flat):
        best = prediction.expression[i].argmax()
        answer = f"{prediction.classes[best]} {prediction.expression[i, best]:.2f}"
        axes.imshow(faces[i])
        axes.set_title(f"{labels.EXPRESSIONS[expressions[i]]}\n→ {answer}", fontsize=8)
        axes.axis("off")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Renders the pictures of the documentation.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/images"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    matplotlib.rcParams["font.family"] = "DejaVu Sans"  # ships with matplotlib
    for draw_figure in (
        contact_sheet, categorical, dimensional, action_units, augmentations, ready_failures
    ):  # fmt: skip
        path = out / f"{draw_figure.__name__}.jpg"
        draw_figure().savefig(path, dpi=120, pil_kwargs={"quality": 80, "optimize": True})
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
