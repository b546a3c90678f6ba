"""The page of a stress test: a figure for each factor."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from affect_jax.core import plotting
from affect_jax.core.paths import write_atomically, writing_to
from affect_jax.report import figures, score_names
from affect_jax.report.templating import MACROS, render_page

CAPTION = (
    "Dots are scores; the dashed line is the score of the same faces without a change. Vertical "
    "lines are 95 % intervals of the difference between the two, paired by face."
)


def write_page(content: Mapping[str, Any], path: pathlib.Path) -> None:
    """Writes the page; `content` is the return value of `stress.run_stress_tests`."""
    sections, about = [], content["about"]
    for suite, factors in content["suites"].items():
        for factor, levels in list(factors.items())[1:]:  # the first is no change
            with plotting.style():
                panels = [plotting.render(_draw(name, levels)) for name in levels[0]["scores"]]
            texts = [f"{row['level']}: {list(row['scores'].values())}" for row in levels]
            figure = figures.Figure(panels, f"Scores by level. {'; '.join(texts)}", CAPTION)
            sections.append((factor, f"{factor}, {suite}", [MACROS.figure(figure)]))
    page = render_page(
        sections,
        kind="stress tests",
        heading=f"{pathlib.Path(about['run']).name}, one factor at a time",
        lead=f"Checkpoint of step {about['checkpoint_step']:,}.",
        comparable=True,
        notice=[f"{count:,} {suite}" for suite, count in about["faces"].items()],
    )
    with writing_to(path.parent), write_atomically(path) as partial:
        partial.write_text(page, encoding="utf-8")


def _draw(name: str, levels: list[Any]) -> Axes:
    panel = plotting.create_panel(300, 230, title=score_names.format_title(name).split(" ·")[0])
    is_numeric = all(isinstance(row["level"], (int, float)) for row in levels)
    places = [row["level"] if is_numeric else i for i, row in enumerate(levels)]
    scores, changes = (
        np.array([row[key][name] for row in levels], float) for key in ("scores", "changes")
    )  # None becomes NaN
    ends = np.array([row["changes_intervals"].get(name, (np.nan, np.nan)) for row in levels])
    base = scores - changes
    panel.vlines(places, *(base + ends.T), color=plotting.BLUE, linewidth=1.6)
    panel.plot(places, scores, "o-" if is_numeric else "o", color=plotting.BLUE)
    panel.axhline(base[0], **figures.LINE)
    if not is_numeric:
        panel.set_xticks(places, [str(row["level"]) for row in levels], rotation=30)
    return panel
