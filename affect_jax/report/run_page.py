"""The report of one run: `report.html`, its figures as PNG files and as TensorBoard images."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.facs.action_units import ACTION_UNITS
from affect_jax.metrics.categorical import confusion_matrix, normalize_rows, predict_top1
from affect_jax.metrics.protocol import select_headlines
from affect_jax.report import example_faces, published_scores, run_summary, score_names
from affect_jax.report.figures import action_units, categorical, curves, dimensional, faces
from affect_jax.report.plotting import (
    FigureSpec,
    RenderedFigure,
    encode_jpeg,
    encode_png,
    render_figure,
)
from affect_jax.report.runs import Run
from affect_jax.report.templating import render_template, write_atomically

if TYPE_CHECKING:  # the module imports JAX
    from affect_jax.train.log_writers import TensorBoardWriter

THUMBNAIL_SIZE = 128  # side length in pixels
CARD_SCORES = (
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
"""Scores shown in large type, if the run has them."""


def write_report(
    run: Run,
    folder: pathlib.Path,
    *,
    page: str = "report.html",
    writer: TensorBoardWriter | None = None,
) -> pathlib.Path:
    """Writes the page and `figures/*.png` into a folder.

    **Arguments:**

    - `page`: file name of the page.
    - `writer`: optional writer that also logs the figures as images, at the checkpoint's step.

    **Returns:** the page's path.

    **Raises:** `UserError` if the folder cannot be written.
    """
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        _, published = _published_scores(run)
        figures = {
            section: [render_figure(spec) for spec in specs]
            for section, specs in create_figures(run, published).items()
        }
        images = {f.spec.name: f.pixels for section in figures.values() for f in section}
        images |= create_contact_sheets(run)
        for name, pixels in images.items():
            (folder / "figures" / f"{name}.png").write_bytes(encode_png(pixels))
        write_atomically(folder / page, render_html(run, figures))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    if writer is not None:
        step = int(run.metadata["checkpoint_step"]) if "checkpoint_step" in run.metadata else 0
        writer.write_images(step, {f"report/{name}": pixels for name, pixels in images.items()})
        writer.flush()
    return folder / page


def create_figures(run: Run, published: Mapping[str, float]) -> dict[str, list[FigureSpec]]:
    """Creates the figures by section; a section without data has an empty list."""
    by_class = categorical.create_figures(run, published)
    names = ("f1", "confusion", "precision_recall", "reliability")
    figures = {name: [by_class[name]] if name in by_class else [] for name in names}
    return figures | {
        "plane": dimensional.create_figures(run),
        "units": action_units.create_figures(run),
        "training": curves.create_figures(run),
    }


def render_html(run: Run, figures: Mapping[str, Sequence[RenderedFigure]]) -> str:
    """Renders the page."""
    comparable, published = _published_scores(run)
    _, origin = run_summary.describe_comparability(run)
    context: dict[str, Any] = {
        "heading": run_summary.format_heading(run),
        "lead": run_summary.format_lead(run),
        "data_notice": origin,
        "comparable": comparable,
        "run": run,
        "metadata": run.metadata,
        "scores": run.scores,
        "facts": run_summary.summarize(run),
        "config": run_summary.format_config(run),
        "published": published,
        "cards": [name for name in CARD_SCORES if name in run.scores.values],
        "headlines": _group_headlines(run),
        "figures": figures,
        "classes": _count_classes(run),
        "f1_columns": [
            (
                f"categorical.{rule}.{skew}.f1",
                f"{score_names.RULE_NAMES[rule]} {score_names.SKEW_NAMES[skew]}",
            )
            for rule, skew in published_scores.TABLE7_COLUMNS
        ],
        "matrix": _confusion_rows(run),
        "units": _unit_rows(run),
        "galleries": _create_galleries(run),
        "grad_cam": _create_grad_cam_gallery(run),
        "side": THUMBNAIL_SIZE,
    }
    context["contents"] = _table_of_contents(context)
    return render_template("report.html", context)


def create_contact_sheets(run: Run) -> dict[str, np.ndarray]:
    """Creates one image per gallery and one of the Grad-CAM examples, by file name."""
    sheets = {}
    for (name, _), (_, _, entries) in zip(
        _select_galleries(run), _create_galleries(run), strict=True
    ):
        with_image = [entry for entry in entries if entry["row"] in run.faces]
        if with_image:
            images = [run.faces[entry["row"]] for entry in with_image]
            captions = [f"{entry['prediction']}\n{entry['label']}" for entry in with_image]
            sheets[name] = faces.create_contact_sheet(images, captions, columns=6)
    if run.grad_cam_examples:
        images, captions = [], []
        for example in run.grad_cam_examples:
            images += [example.face, faces.overlay_heatmap(example.face, example.heatmap)]
            captions += _describe_expression(run, example.row)
        sheets["grad_cam"] = faces.create_contact_sheet(images, captions, columns=6)
    return sheets


def _published_scores(run: Run) -> tuple[bool, dict[str, float]]:
    """Returns whether the run is comparable with the paper, and the paper's scores if it is."""
    comparable = not published_scores.why_not_comparable(run.metadata, run.predictions)
    return comparable, published_scores.select_published(
        run.config, run.predictions.classes
    ) if comparable else {}


def _group_headlines(run: Run) -> list[tuple[str, list[str]]]:
    """Groups the headline scores: (model, score names), in the order of the scores."""
    groups: dict[str, list[str]] = {}
    for name in select_headlines(run.scores):
        groups.setdefault(score_names.lookup_model_name(name), []).append(name)
    return list(groups.items())


def _count_classes(run: Run) -> list[tuple[str, int]]:
    """Returns (class, number of labelled faces); empty without a categorical model."""
    predictions = run.predictions
    if (
        predictions.expression is None
        or "categorical.top1.original.accuracy" not in run.scores.values
    ):
        return []
    counts = np.bincount(
        predictions.expression[predictions.expression >= 0], minlength=len(predictions.classes)
    )
    return list(zip(predictions.classes, counts.tolist(), strict=True))


def _confusion_rows(run: Run) -> list[tuple[str, list[tuple[int, float]]]]:
    predictions = run.predictions
    if predictions.expression is None or predictions.probabilities is None:
        return []
    rows = predictions.expression >= 0
    predicted = predict_top1(predictions.probabilities[rows])
    counts = confusion_matrix(predictions.expression[rows], predicted, len(predictions.classes))
    shares = normalize_rows(counts)
    return [
        (name, list(zip(row.tolist(), share.tolist(), strict=True)))
        for name, row, share in zip(predictions.classes, counts, shares, strict=True)
    ]


def _unit_rows(run: Run) -> list[tuple[str, str]]:
    """Returns (unit, name in words) of each scored unit, and the mean."""
    words = {unit.number: unit.name for unit in ACTION_UNITS}
    rows = [
        (f"AU{unit}", words[unit] if unit in words else "")
        for unit in run.predictions.units
        if f"action_units.AU{unit}.f1" in run.scores.values
    ]
    return [*rows, ("mean", "")] if rows else []


def _select_galleries(run: Run) -> list[tuple[str, np.ndarray]]:
    """Returns (file name, rows) of each gallery that has faces."""
    galleries = [
        ("confident_mistakes", example_faces.select_confident_mistakes(run.predictions)),
        ("uncertain_faces", example_faces.select_uncertain(run.predictions)),
        ("far_off_faces", example_faces.select_largest_errors(run.predictions)),
    ]
    return [(name, rows) for name, rows in galleries if len(rows)]


_GALLERY_TEXTS = {
    "confident_mistakes": (
        "Most confident mistakes",
        "Wrong predictions with the highest confidence. Faces with a wrong label also appear here.",
    ),
    "uncertain_faces": (
        "Least certain faces",
        "Faces with the lowest probability of the most probable class.",
    ),
    "far_off_faces": (
        "Largest errors of valence and arousal",
        "Faces with the largest distance between label and prediction.",
    ),
}


def _create_galleries(run: Run) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Returns (title, note, faces) of each gallery; `image` is empty if a face has no image."""
    galleries = []
    for name, rows in _select_galleries(run):
        title, note = _GALLERY_TEXTS[name]
        describe = _describe_axes if name == "far_off_faces" else _describe_expression
        entries = []
        for row in rows.tolist():
            prediction, label = describe(run, row)
            image = encode_jpeg(run.faces[row], THUMBNAIL_SIZE) if row in run.faces else ""
            identifier = str(run.predictions.id[row])
            alt = f"Face {identifier}: {prediction}, {label}"
            entry = {"row": row, "id": identifier, "prediction": prediction, "label": label}
            entries.append(entry | {"image": image, "alt": alt})
        galleries.append((title, note, entries))
    return galleries


def _describe_expression(run: Run, row: int) -> tuple[str, str]:
    """Describes a face's prediction and its label, each with its probability."""
    predictions = run.predictions
    assert predictions.expression is not None and predictions.probabilities is not None
    probabilities = predictions.probabilities[row]
    best, label = int(probabilities.argmax()), int(predictions.expression[row])
    prediction = f"{predictions.classes[best]} {probabilities[best]:.2f}"
    if label == best:
        return prediction, "as labelled"
    if label < 0:
        return prediction, "no label"
    return prediction, f"label {predictions.classes[label]} {probabilities[label]:.2f}"


def _describe_axes(run: Run, row: int) -> tuple[str, str]:
    predictions = run.predictions
    labels, predicted = predictions.valence_arousal, predictions.valence_arousal_predicted
    assert labels is not None and predicted is not None
    pairs = (predicted[row], labels[row])
    prediction, label = (
        f"{score_names.format_difference(v, 2)}, {score_names.format_difference(a, 2)}"
        for v, a in pairs
    )
    return prediction, f"label {label}"


def _create_grad_cam_gallery(run: Run) -> list[tuple[str, list[dict[str, Any]]]]:
    """Returns (class, faces with Grad-CAM), by label."""
    predictions = run.predictions
    if not run.grad_cam_examples or predictions.expression is None:
        return []
    gallery: dict[str, list[dict[str, Any]]] = {}
    for example in run.grad_cam_examples:
        prediction, label = _describe_expression(run, example.row)
        overlay = faces.overlay_heatmap(example.face, example.heatmap)
        identifier = str(predictions.id[example.row])
        entry = {
            "id": identifier,
            "prediction": prediction,
            "label": label,
            "image": encode_jpeg(example.face, THUMBNAIL_SIZE),
            "overlay": encode_jpeg(overlay, THUMBNAIL_SIZE),
            "alt": f"Face {identifier}: {prediction}, {label}",
            "warmest": faces.describe_warmest_region(example.heatmap),
        }
        class_name = predictions.classes[int(predictions.expression[example.row])]
        gallery.setdefault(class_name, []).append(entry)
    return list(gallery.items())


def _table_of_contents(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns (id, title) of the page's sections."""
    figures = context["figures"]
    sections = [
        ("run", "Run", True),
        ("scores", "Headline scores", True),
        ("classes", "Scores by class", context["classes"]),
        ("confusion", "Confusion matrix", context["classes"]),
        ("curves", "Precision and recall", context["classes"]),
        ("reliability", "Reliability", context["classes"]),
        ("plane", "Valence and arousal", figures["plane"]),
        ("units", "Action units", context["units"]),
        ("training", "Learning curves", figures["training"]),
        ("faces", "Faces", context["galleries"]),
        ("explanations", "Grad-CAM", context["grad_cam"]),
        ("all", "All scores", True),
    ]
    return [(id, title) for id, title, present in sections if present]
