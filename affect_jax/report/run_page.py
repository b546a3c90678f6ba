"""The report of one run: `report.html`, and its figures as PNG files."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from affect_jax.core import plotting
from affect_jax.core.paths import write_atomically, writing_to
from affect_jax.evaluate import scoring
from affect_jax.facs.action_units import ACTION_UNITS
from affect_jax.metrics import protocol_matrix
from affect_jax.metrics.protocol import select_headlines
from affect_jax.report import figures, galleries, published_scores, score_names
from affect_jax.report.figures import Figures
from affect_jax.report.runs import Run, count_faces
from affect_jax.report.templating import MACROS, render_page


def write_report(run: Run, folder: pathlib.Path, *, page: str = "report.html") -> pathlib.Path:
    """Writes `page` and `figures/*.png` into a folder and returns the path of the page.

    **Raises:** `UserError` if the folder cannot be written.
    """
    with writing_to(folder / "figures"):
        drawn = draw_figures(run)
        with write_atomically(folder / page) as partial:
            partial.write_text(render_html(run, drawn), encoding="utf-8")
        for name, figure in drawn.items():
            pixels = np.hstack(figure.panels)
            Image.fromarray(pixels).save(folder / "figures" / f"{name}.png")
    return folder / page


def draw_figures(run: Run) -> Figures:
    """Draws and renders each figure for which the run has data."""
    with plotting.style():
        drawn = figures.draw_expression(run) | figures.draw_dimensional(run)
        drawn |= figures.draw_units(run) | figures.draw_learning_curves([run])
        return figures.render(drawn)


def render_html(run: Run, drawn: Figures) -> str:
    """Renders the page with the figures of `draw_figures`."""

    def draw(name: str) -> str:
        return MACROS.figure(drawn[name]) if name in drawn else ""

    published = published_scores.select_published(run)
    headlines = MACROS.cards(run.scores, select_headlines(run.scores), published)
    sections = [
        ("run", "Run", [MACROS.facts(_summarize(run)), _list_settings(run)]),
        ("scores", "Headline scores", [headlines]),
        ("protocols", "Scores by protocol", [_list_protocols(run)]),
        ("classes", "Scores by class", [draw("f1_by_class"), *_list_class_scores(run, published)]),
        ("confusion", "Confusion matrix", [draw("confusion")]),
        ("curves", "Precision and recall", [draw("precision_recall")]),
        ("reliability", "Reliability", [draw("reliability")]),
        ("plane", "Valence and arousal", [draw("agreement")]),
        ("units", "Action units", [draw("units_by_emotion"), _list_unit_scores(run)]),
        ("groups", "Scores by group", _list_group_scores(run)),
        ("training", "Learning curves", [draw("learning_curves")]),
        ("faces", "Faces", galleries.list_faces(run)),
        ("explanations", "Grad-CAM", galleries.list_grad_cam_examples(run)),
        ("all", "All scores", [_list_all_scores(run)]),
    ]
    comparable, notice = published_scores.describe_comparability(run)
    about = run.metadata
    if "warning" in about:
        notice = [*notice, f"Warning: {about['warning']}."]
    trunk = run.config["trunk.name"] if "trunk.name" in run.config else "Predictions"
    split = f" of the {about['split']} split" if "split" in about else ""
    step = f" at step {about['checkpoint_step']:,}" if "checkpoint_step" in about else ""
    return render_page(
        sections,
        kind="report of a run",
        heading=f"{trunk} on {published_scores.describe_data(run)}",
        lead=f"{run.name}{step}, scored on {len(run.predictions):,} faces{split}.",
        comparable=comparable,
        notice=notice,
    )


def _summarize(run: Run) -> dict[str, dict[str, Any]]:
    """Returns the facts of a run by heading, then by term, from `about` of `scores.json`."""
    evaluation: dict[str, Any] = {}
    details = {}
    for key, value in run.metadata.items():
        if isinstance(value, dict):
            details[key.replace("_", " ").capitalize()] = value
        elif key != "predictions":  # a path of the machine of the evaluation
            evaluation[key] = "; ".join(map(str, value)) if isinstance(value, list) else value
    stopped = run.curves.get("early_stop.best_step")
    if stopped and stopped.steps[-1] >= run.curves["train.loss"].steps[-1]:  # it may have resumed
        step, best = stopped.steps[-1], stopped.values[-1]
        evaluation["stopped early"] = f"at step {step:,}; no better score since step {best:,.0f}"
    evaluation["classes"] = ", ".join(run.predictions.classes)
    return {"Evaluation": evaluation, **details}


def _list_settings(run: Run) -> str:
    rows = [(MACROS.code(key), MACROS.code(json.dumps(x))) for key, x in run.config.items()]
    table = MACROS.table("All keys of the run’s config.json", ("key", "value"), rows, 2)
    return MACROS.details("Full config", table)


def _list_protocols(run: Run) -> str:
    rows = protocol_matrix.list_rows(run.protocols)
    caption = "The same predictions by each protocol in use"
    return MACROS.table(caption, protocol_matrix.HEADERS, rows, 2)


def _list_class_scores(run: Run, published: Mapping[str, float]) -> list[str]:
    if "categorical.top1.original.accuracy" not in run.scores.values:
        return []
    classes, counts = run.predictions.classes, count_faces(run.predictions)
    columns = published_scores.TABLE7_COLUMNS
    rows = []
    for name, count in zip((*classes, "macro"), (*counts, counts.sum()), strict=True):
        names = [f"categorical.{kind}.f1.{name}" for kind in columns.values()]
        cells = [MACROS.cell(run.scores, name, published) for name in names]
        rows.append((name, f"{count:,}", *cells))
    caption = "F1 by class: original class distribution (Orig) and equally frequent classes (Norm)"
    table = MACROS.table(caption, ("class", "faces", *columns), rows)
    text = f"The figures show the {plotting.MAX_NAMES} classes with the most faces."
    return [MACROS.paragraph(text), table] if len(classes) > plotting.MAX_NAMES else [table]


def _list_unit_scores(run: Run) -> str:
    words = {f"AU{unit}": name for unit, name in ACTION_UNITS.items()}
    rows = []
    for unit in (*(f"AU{number}" for number in run.predictions.units), "mean"):
        names = [f"action_units.{unit}.{metric}" for metric in ("f1", "auc", "accuracy")]
        if names[0] in run.scores.values:
            cells = [MACROS.cell(run.scores, name) for name in names]
            rows.append((unit, words.get(unit, ""), *cells))
    caption = "F1 and accuracy at a threshold of 0.5, area under the ROC curve (AUC)"
    return MACROS.table(caption, ("unit", "name", "F1", "AUC", "accuracy"), rows, 2)


def _list_group_scores(run: Run) -> list[str]:
    text = "The macro-F1 of a group is the mean over the expressions that occur in it."
    blocks = [MACROS.paragraph(text)] if run.groups else []
    for grouping, groups in run.groups.items():
        names = list(next(iter(groups.values()))[1].values)
        rows = [
            (group, f"{count:,}", *(MACROS.cell(scores, name) for name in names))
            for group, (count, scores) in groups.items()
        ]
        headers = (grouping, "faces", *map(score_names.format_title, names))
        blocks.append(MACROS.table(f"By {grouping}", headers, rows))
        rows = scoring.list_differences(run.group_differences.get(grouping, {}))
        caption = f"Largest differences by {grouping}"
        blocks.append(MACROS.table(caption, scoring.DIFFERENCE_HEADERS, rows, 2))
    return blocks


def _list_all_scores(run: Run) -> str:
    scores, reasons = run.scores, run.scores.reasons
    deviations = {k: score_names.format_score(value) for k, value in scores.deviations.items()}
    rows = [
        (
            MACROS.code(name),
            MACROS.cell(scores, name),
            deviations.get(name, ""),
            reasons.get(name, ""),
        )
        for name in scores.values
    ]
    caption = (
        "All scores by their names in scores.json with their intervals; if a mean does not cover "
        "all classes, units or draws, the number of values averaged; the standard deviation of "
        "Norm scores over draws; the reason if a score is undefined"
    )
    table = MACROS.table(caption, ("name", "score", "standard deviation", "remark"), rows)
    return MACROS.details(f"{len(rows):,} scores", table)
