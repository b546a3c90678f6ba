"""The page of one run: `report.html`, its figures as files, and the same for TensorBoard."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.facs.action_units import TABLE
from affect_jax.metrics import confusion
from affect_jax.metrics.protocol import headlines
from affect_jax.report import example_faces, published_scores, run_summary, score_names
from affect_jax.report.figures import categorical, curves, dimensional, faces, units
from affect_jax.report.plotting import Drawing, Picture, jpeg, picture, png
from affect_jax.report.runs import Run
from affect_jax.report.templating import render, write_text

if TYPE_CHECKING:  # writers know of JAX's processes
    from affect_jax.train.loggers import Writer

THUMBNAIL = 128  # side, pixels
CARDS = (
    "categorical.top1.original.accuracy",
    "categorical.top1.original.f1.macro",
    "categorical.top1.normalised.f1.macro",
    "categorical.top1.original.kappa",
    "dimensional.valence.ccc",
    "dimensional.arousal.ccc",
    "action_units.mean.f1",
    "action_units.mean.auc",
    "multitask",
)
"""What is written large, where a run has it."""


def write(
    run: Run, folder: pathlib.Path, *, page: str = "report.html", writer: Writer | None = None
) -> pathlib.Path:
    """Writes the page and `figures/*.png` into a folder.

    **Arguments:**

    - `writer`: where the figures go as images too, at the checkpoint's step.

    **Returns:** the page's path.

    **Raises:** `UserError` where the folder cannot be written.
    """
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        _, papers = _published(run)
        pictures = {
            section: [picture(one) for one in drawings]
            for section, drawings in figures(run, papers).items()
        }
        drawn = {one.drawing.name: one.pixels for several in pictures.values() for one in several}
        drawn |= sheets(run)
        for name, pixels in drawn.items():
            (folder / "figures" / f"{name}.png").write_bytes(png(pixels))
        write_text(folder / page, html(run, pictures))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    if writer is not None:
        step = int(run.about["checkpoint_step"]) if "checkpoint_step" in run.about else 0
        writer.write_images(step, {f"report/{name}": pixels for name, pixels in drawn.items()})
        writer.flush()
    return folder / page


def figures(run: Run, papers: Mapping[str, float]) -> dict[str, list[Drawing]]:
    """Section -> its figures; a section that the run has nothing for has none."""
    by_class = categorical.drawings(run, papers)
    names = ("f1", "confusion", "precision_recall", "reliability")
    found = {name: [by_class[name]] if name in by_class else [] for name in names}
    return found | {
        "plane": dimensional.drawings(run),
        "units": units.drawings(run),
        "training": curves.drawings(run),
    }


def html(run: Run, pictures: Mapping[str, Sequence[Picture]]) -> str:
    """The page."""
    comparable, papers = _published(run)
    _, origin = run_summary.origin(run)
    context: dict[str, Any] = {
        "heading": run_summary.heading(run),
        "lead": run_summary.lead(run),
        "origin": origin,
        "comparable": comparable,
        "run": run,
        "about": run.about,
        "scores": run.scores,
        "facts": run_summary.facts(run),
        "config": run_summary.config_rows(run),
        "papers": papers,
        "cards": [name for name in CARDS if name in run.scores.values],
        "headlines": _headlines(run),
        "pictures": pictures,
        "classes": _classes(run),
        "f1_columns": [
            (
                f"categorical.{rule}.{skew}.f1",
                f"{score_names.RULES[rule]} {score_names.SKEWS[skew]}",
            )
            for rule, skew in published_scores.COLUMNS
        ],
        "matrix": _matrix(run),
        "units": _units(run),
        "walls": _walls(run),
        "explained": _explained(run),
        "side": THUMBNAIL,
    }
    context["contents"] = _contents(context)
    return render("report.html", context)


def sheets(run: Run) -> dict[str, np.ndarray]:
    """The walls of faces and the explanations as one image each, by the names of their files."""
    found = {}
    for (name, _), (_, _, shown) in zip(_kinds(run), _walls(run), strict=True):
        seen = [one for one in shown if one["row"] in run.faces]
        if seen:
            images = [run.faces[one["row"]] for one in seen]
            captions = [f"{one['said']}\n{one['was']}" for one in seen]
            found[name] = faces.sheet(images, captions, columns=6)
    if run.explanations:
        images, captions = [], []
        for one in run.explanations:
            images += [one.face, faces.overlay(one.face, one.heat)]
            captions += _said(run, one.row)
        found["grad_cam"] = faces.sheet(images, captions, columns=6)
    return found


def _published(run: Run) -> tuple[bool, dict[str, float]]:
    """Whether the paper may stand beside the run, and its numbers where it may."""
    comparable = not published_scores.why_not_comparable(run.about, run.table)
    return comparable, published_scores.published(
        run.config, run.table.classes
    ) if comparable else {}


def _headlines(run: Run) -> list[tuple[str, list[str]]]:
    """(model, names), in the order of the scores."""
    found: dict[str, list[str]] = {}
    for name in headlines(run.scores):
        found.setdefault(score_names.model_of(name), []).append(name)
    return list(found.items())


def _classes(run: Run) -> list[tuple[str, int]]:
    """Each class and its number of labelled faces; none where there is no categorical model."""
    table = run.table
    if table.expression is None or "categorical.top1.original.accuracy" not in run.scores.values:
        return []
    counts = np.bincount(table.expression[table.expression >= 0], minlength=len(table.classes))
    return list(zip(table.classes, counts.tolist(), strict=True))


def _matrix(run: Run) -> list[tuple[str, list[tuple[int, float]]]]:
    table = run.table
    if table.expression is None or table.probabilities is None:
        return []
    rows = table.expression >= 0
    predicted = confusion.top1(table.probabilities[rows])
    counts = confusion.matrix(table.expression[rows], predicted, len(table.classes))
    shares = confusion.shares(counts)
    return [
        (name, list(zip(row.tolist(), share.tolist(), strict=True)))
        for name, row, share in zip(table.classes, counts, shares, strict=True)
    ]


def _units(run: Run) -> list[tuple[str, str]]:
    """Each scored unit with its name in words, and the mean."""
    words = {unit.number: unit.name for unit in TABLE}
    found = [
        (f"AU{unit}", words[unit] if unit in words else "")
        for unit in run.table.units
        if f"action_units.AU{unit}.f1" in run.scores.values
    ]
    return [*found, ("mean", "")] if found else []


def _kinds(run: Run) -> list[tuple[str, np.ndarray]]:
    """File name and rows of each wall of faces."""
    kinds = [
        ("confident_mistakes", example_faces.mistakes(run.table)),
        ("uncertain_faces", example_faces.uncertain(run.table)),
        ("far_off_faces", example_faces.far_off(run.table)),
    ]
    return [(name, rows) for name, rows in kinds if len(rows)]


_WALLS = {
    "confident_mistakes": (
        "The most confident mistakes",
        "Wrong, and sure of it; where a label is itself wrong, it looks the same.",
    ),
    "uncertain_faces": (
        "The least certain faces",
        "Their most probable class is hardly more probable than another.",
    ),
    "far_off_faces": (
        "Valence and arousal farthest off",
        "The longest way between label and prediction on the plane.",
    ),
}


def _walls(run: Run) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(title, note, faces) of each wall; without pictures a face has no `image`."""
    found = []
    for name, rows in _kinds(run):
        title, note = _WALLS[name]
        say = _said_of_axes if name == "far_off_faces" else _said
        shown = []
        for row in rows.tolist():
            said, was = say(run, row)
            image = jpeg(run.faces[row], THUMBNAIL) if row in run.faces else ""
            identifier = str(run.table.id[row])
            alt = f"Face {identifier}: {said}, {was}"
            entry = {"row": row, "id": identifier, "said": said, "was": was}
            shown.append(entry | {"image": image, "alt": alt})
        found.append((title, note, shown))
    return found


def _said(run: Run, row: int) -> tuple[str, str]:
    """What was predicted of a face, with its probability, and its label with its own."""
    table = run.table
    assert table.expression is not None and table.probabilities is not None
    probabilities = table.probabilities[row]
    best, label = int(probabilities.argmax()), int(table.expression[row])
    said = f"{table.classes[best]} {probabilities[best]:.2f}"
    if label == best:
        return said, "as labelled"
    if label < 0:
        return said, "no label"
    return said, f"label {table.classes[label]} {probabilities[label]:.2f}"


def _said_of_axes(run: Run, row: int) -> tuple[str, str]:
    table = run.table
    assert table.valence_arousal is not None and table.valence_arousal_predicted is not None
    pairs = (table.valence_arousal_predicted[row], table.valence_arousal[row])
    said, was = (f"{score_names.signed(v, 2)}, {score_names.signed(a, 2)}" for v, a in pairs)
    return said, f"label {was}"


def _explained(run: Run) -> list[tuple[str, list[dict[str, Any]]]]:
    """(class, faces) with Grad-CAM, by label."""
    table = run.table
    if not run.explanations or table.expression is None:
        return []
    found: dict[str, list[dict[str, Any]]] = {}
    for one in run.explanations:
        said, was = _said(run, one.row)
        identifier = str(table.id[one.row])
        entry = {
            "id": identifier,
            "said": said,
            "was": was,
            "image": jpeg(one.face, THUMBNAIL),
            "heat": jpeg(faces.overlay(one.face, one.heat), THUMBNAIL),
            "alt": f"Face {identifier}: {said}, {was}",
            "where": faces.warmest(one.heat),
        }
        found.setdefault(table.classes[int(table.expression[one.row])], []).append(entry)
    return list(found.items())


def _contents(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(id, title) of the sections that the page has."""
    pictures = context["pictures"]
    sections = [
        ("run", "What was run", True),
        ("scores", "Headline scores", True),
        ("classes", "Each class", context["classes"]),
        ("confusion", "Confusion", context["classes"]),
        ("curves", "Precision and recall", context["classes"]),
        ("reliability", "Reliability", context["classes"]),
        ("plane", "Valence and arousal", pictures["plane"]),
        ("units", "Action units", context["units"]),
        ("training", "Learning curves", pictures["training"]),
        ("faces", "Faces", context["walls"]),
        ("explanations", "Where the network looked", context["explained"]),
        ("all", "Every score", True),
    ]
    return [(id, title) for id, title, present in sections if present]
