"""The report of one run: `report.html`, its figures as PNG files and as TensorBoard images."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from affect_jax.core import plotting
from affect_jax.core.paths import write_atomically, writing_to
from affect_jax.facs.action_units import ACTION_UNITS
from affect_jax.metrics.protocol import select_headlines
from affect_jax.report import (
    emotion_figures,
    figures,
    galleries,
    published_scores,
    run_summary,
    score_names,
)
from affect_jax.report.figures import Figures
from affect_jax.report.runs import Run
from affect_jax.report.templating import MACROS, render_page

if TYPE_CHECKING:  # the module imports JAX
    from affect_jax.train.log_writers import TensorBoardWriter


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
    with writing_to(folder / "figures"):
        drawn = draw_figures(run)
        with write_atomically(folder / page) as partial:
            partial.write_text(render_html(run, drawn), encoding="utf-8")
        images = {name: np.hstack(figure.panels) for name, figure in drawn.items()}
        for name, pixels in images.items():
            Image.fromarray(pixels).save(folder / "figures" / f"{name}.png")
    if writer is not None:
        step = int(run.metadata.get("checkpoint_step", 0))
        writer.write_images(step, {f"report/{name}": pixels for name, pixels in images.items()})
    return folder / page


def draw_figures(run: Run) -> Figures:
    """Draws and renders each figure for which the run has data."""
    with plotting.style():
        drawn = figures.draw_expression(run)
        drawn |= emotion_figures.draw_dimensional(run) | emotion_figures.draw_units(run)
        return figures.render(drawn | figures.draw_learning_curves([run]))


def render_html(run: Run, drawn: Figures) -> str:
    """Renders the page with the figures of `draw_figures`."""

    def draw(*names: str) -> list[str]:
        return [MACROS.figure(drawn[name]) for name in names if name in drawn]

    scores, published = run.scores, published_scores.select_published(run)
    cards = MACROS.cards(scores, select_headlines(scores), published)
    sections = [
        ("run", "Run", [MACROS.facts(run_summary.summarize(run)), *_list_settings(run)]),
        ("scores", "Headline scores", [cards]),
        ("classes", "Scores by class", [*draw("f1_by_class"), *_list_class_scores(run)]),
        ("confusion", "Confusion matrix", draw("confusion")),
        ("curves", "Precision and recall", draw("precision_recall")),
        ("reliability", "Reliability", draw("reliability")),
        ("plane", "Valence and arousal", draw("agreement", "plane")),
        ("units", "Action units", [*draw("units_by_emotion"), *_list_unit_scores(run)]),
        ("groups", "Scores by group", _list_group_scores(run)),
        ("training", "Learning curves", draw("learning_curves")),
        ("faces", "Faces", _list_faces(run)),
        ("explanations", "Grad-CAM", _list_grad_cam_examples(run)),
        ("all", "All scores", _list_all_scores(run)),
    ]
    comparable, notice = run_summary.describe_comparability(run)
    trunk = run.config["trunk.name"] if "trunk.name" in run.config else "Predictions"
    split = f" of the {run.metadata['split']} split" if "split" in run.metadata else ""
    step = (
        f" at step {run.metadata['checkpoint_step']:,}" if "checkpoint_step" in run.metadata else ""
    )
    return render_page(
        sections,
        kind="report of a run",
        heading=f"{trunk} on {run_summary.describe_data(run)}",
        lead=f"{run.name}{step}, scored on {len(run.predictions):,} faces{split}.",
        comparable=comparable,
        notice=notice,
    )


def _list_settings(run: Run) -> list[str]:
    rows = [(MACROS.code(key), MACROS.code(json.dumps(x))) for key, x in run.config.items()]
    table = MACROS.table("All keys of the run’s config.json", ("key", "value"), rows, 2)
    return [MACROS.details("Full config", table)] if rows else []


def _list_class_scores(run: Run) -> list[str]:
    if "categorical.top1.original.accuracy" not in run.scores.values:
        return []
    labels, classes = run.predictions.expression, run.predictions.classes
    assert labels is not None
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    columns = {
        f"{score_names.RULE_NAMES[rule]} {score_names.SKEW_NAMES[skew]}": f"{rule}.{skew}"
        for rule, skew in published_scores.TABLE7_COLUMNS
    }
    published = published_scores.select_published(run)
    rows = [
        (
            name,
            f"{count:,}",
            *(
                MACROS.cell(run.scores, f"categorical.{column}.f1.{name}", published)
                for column in columns.values()
            ),
        )
        for name, count in zip((*classes, "macro"), (*counts, counts.sum()), strict=True)
    ]
    caption = "F1 by class: original class distribution (Orig) and equally frequent classes (Norm)"
    return [MACROS.table(caption, ("class", "faces", *columns), rows)]


def _list_unit_scores(run: Run) -> list[str]:
    words = {f"AU{unit.number}": unit.name for unit in ACTION_UNITS} | {"mean": ""}
    rows = [
        (
            unit,
            words.get(unit, ""),
            *(
                MACROS.cell(run.scores, f"action_units.{unit}.{metric}")
                for metric in ("f1", "auc", "accuracy")
            ),
        )
        for unit in (*(f"AU{number}" for number in run.predictions.units), "mean")
        if f"action_units.{unit}.f1" in run.scores.values
    ]
    caption = "F1 and accuracy at a threshold of 0.5, area under the ROC curve (AUC)"
    headers = ("unit", "name", "F1", "AUC", "accuracy")
    return [MACROS.table(caption, headers, rows, 2)] if rows else []


def _list_group_scores(run: Run) -> list[str]:
    text = "The macro-F1 of a group is the mean over the expressions that occur in it."
    blocks = [MACROS.paragraph(text)] if run.groups else []
    for grouping, groups in run.groups.items():
        names = list(next(iter(groups.values()))["scores"])
        rows = [
            (
                group,
                f"{content['faces']:,}",
                *(
                    MACROS.with_range(
                        score_names.format_score(content["scores"][name]),
                        score_names.format_interval(content["intervals"], name),
                    )
                    for name in names
                ),
            )
            for group, content in groups.items()
        ]
        headers = (grouping, "faces", *map(score_names.format_title, names))
        blocks.append(MACROS.table(f"By {grouping}", headers, rows))
    return blocks


def _list_faces(run: Run) -> list[str]:
    blocks = []
    for name, faces in galleries.create_galleries(run).items():
        blocks += [
            MACROS.heading(name),
            MACROS.paragraph(galleries.EXPLANATIONS[name]),
            MACROS.gallery(faces),
        ]
    if blocks and not run.faces:
        text = "No images of these faces are available; only their ids are listed."
        return [MACROS.paragraph(text), *blocks]
    return blocks


def _list_grad_cam_examples(run: Run) -> list[str]:
    text = (
        "Grad-CAM (Selvaraju et al. 2017) of the predicted class: warm regions support the "
        "prediction. For each class, the faces with the highest, the median and the lowest "
        "probability of their label."
    )
    blocks = [MACROS.paragraph(text)] if run.grad_cam else []
    for name, faces in galleries.create_grad_cam_examples(run).items():
        blocks += [MACROS.heading(name), MACROS.gallery(faces)]
    return blocks


def _list_all_scores(run: Run) -> list[str]:
    scores = run.scores
    rows = [
        (
            MACROS.code(name),
            MACROS.cell(scores, name),
            score_names.format_score(scores.deviations[name]) if name in scores.deviations else "",
            scores.reasons.get(name, ""),
        )
        for name in scores.values
    ]
    caption = (
        "All scores by their names in scores.json with their intervals; if a mean does not cover "
        "all classes, units or draws, the number of values averaged; the standard deviation of "
        "Norm scores over draws; the reason if a score is undefined"
    )
    table = MACROS.table(caption, ("name", "score", "standard deviation", "remark"), rows)
    return [MACROS.details(f"{len(rows):,} scores", table)]
