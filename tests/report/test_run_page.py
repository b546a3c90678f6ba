"""The report of a run: its scores, texts, HTML and files."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from affect_jax.core import plotting
from affect_jax.core.errors import UserError
from affect_jax.metrics import protocol
from affect_jax.metrics.base import Scores
from affect_jax.metrics.predictions import Predictions
from affect_jax.report import __main__ as command
from affect_jax.report import published_scores, run_page, runs, templating
from affect_jax.report.figures import Figure
from affect_jax.report.runs import Run
from tests.core.test_plotting import contrast
from tests.report.conftest import HOSTILE, create_predictions, write_run
from tests.report.reading import Page


@pytest.fixture(scope="module")
def text(written) -> str:
    return (written / "report.html").read_text()


@pytest.fixture(scope="module")
def parsed(text) -> Page:
    return Page(text)


def render_without_figures(run: Run) -> str:
    """Renders the page without its figures, which are slow."""
    return run_page.render_html(run, {})


def test_page_has_the_scores_of_scores_json(parsed, workdir):
    content = json.loads((workdir / "evaluation/validation/scores.json").read_text())
    defined = {name: value for name, value in content["scores"].items() if value is not None}
    assert {name for name, _, _ in parsed.scores} == defined.keys()
    for name, value, text_value in parsed.scores:
        assert float(value) == defined[name], name
        assert text_value == f"{round(defined[name], 3) + 0.0:.3f}".replace("-", "−"), name
    assert set(parsed.undefined) == content["undefined"].keys()
    for name, reason in content["undefined"].items():
        assert reason in parsed.text, name
    for name in protocol.HEADLINES:  # also listed before the table of all scores
        assert sum(text_value == name for text_value, _, _ in parsed.scores) >= 2


def test_early_stop_is_reported_unless_the_run_resumed(run):
    for step, is_shown in ((200, True), (100, False)):
        stopped = {"early_stop.best_step": runs.Curve(np.array([step]), np.array([80.0]))}
        page = render_without_figures(dataclasses.replace(run, curves=run.curves | stopped))
        assert ("at step 200; no better score since step 80" in page) == is_shown


def test_intervals_are_next_to_their_scores(text, workdir):
    content = json.loads((workdir / "evaluation/validation/scores.json").read_text())
    for name in protocol.HEADLINES:
        low, high = (f"{end:.3f}".replace("-", "−") for end in content["intervals"][name])
        place = text.index(f'data-score="{name}"')
        assert f"{low} to {high}" in text[place : place + 200], name


def test_sections_are_in_order(parsed):
    ids = [attributes["id"] for attributes in parsed.all("section")]
    assert ids == [
        "run", "scores", "protocols", "classes", "confusion", "curves", "reliability", "plane",
        "units", "training", "faces", "explanations", "all",
    ]  # fmt: skip
    linked = [
        a["href"][1:] for a in parsed.all("a") if a["href"].startswith("#") and "class" not in a
    ]
    assert linked == ids


def test_page_has_the_facts_of_the_run(parsed):
    for fact in (
        "rendered faces (synthetic_faces)", "validation", "alexnet", "cross_entropy", "step 200",
        "0123456789ab", "abcdef012345", "duration.epochs3.5", "1 x cpu", "4 x accelerator", "numpy",
        "2026-01-02 03:04 UTC", "learning_rate", "0.01",
        "action_unitsvalidation: action units annotated for 240 faces",
    ):  # fmt: skip
        assert fact in parsed.text, fact


def test_page_is_self_contained(text, parsed):
    for _, attributes in parsed.elements:
        for name in ("src", "srcset", "href"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), attributes[name][:60]
    assert "default-src 'none'" in text
    assert not parsed.all("script") and "@import" not in text and "url(" not in text


def test_external_text_is_escaped(text, parsed):
    assert HOSTILE in parsed.text  # as text
    assert "<script" not in text and "alert(" in text
    assert any(HOSTILE in image["alt"] for image in parsed.all("img"))


def test_page_is_well_formed_and_accessible(parsed):
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    headings = [int(name[1]) for name, _ in parsed.elements if re.fullmatch("h[1-6]", name)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(headings, headings[1:], strict=False))
    assert parsed.all("html")[0]["lang"] == "en" and parsed.all("title")
    for image in parsed.all("img"):
        assert {"alt", "width", "height"} <= image.keys()
    figures = [a for a in parsed.all("div") if a.get("role") == "img"]
    described = [image for image in parsed.all("img") if image["alt"]]
    assert len(figures) == 7 and all(a["aria-label"].endswith(".") for a in figures)
    assert sum(image["src"].startswith("data:image/jpeg") for image in described) == len(described)
    for cells in parsed.tables:
        assert [name for name, _ in cells].count("caption") == 1
        assert all("scope" in attributes for name, attributes in cells if name == "th")
    labelled = {a["aria-labelledby"] for a in parsed.all("section")}
    assert labelled <= set(ids)
    scrolling = [a for a in parsed.all("div") if a.get("class") == "scroll"]
    assert len(scrolling) == len(parsed.tables)
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)
    first = next(attributes for name, attributes in parsed.elements if name == "a")
    assert first == {"class": "skip", "href": "#main"} and "main" in ids


def test_figures_are_written_as_files(written):
    files = {path.stem: path for path in (written / "figures").iterdir()}
    assert files.keys() == {
        "f1_by_class", "confusion", "precision_recall", "reliability", "agreement",
        "units_by_emotion", "learning_curves",
    }  # fmt: skip
    for path in files.values():
        assert np.asarray(Image.open(path)).std() > 5, "an empty picture"


def test_no_published_scores_on_other_data(text, parsed):
    assert parsed.text.count("Not AffectNet: rendered faces") == 1
    assert 'class="notice warning"' in text
    assert "paper" not in parsed.text.replace("with scores published on AffectNet", "").lower()


def test_page_has_the_scores_of_groups(run):
    group = Scores({"multitask": 0.25}, {"multitask": (0.125, 0.5)})
    groups = {"age": {"20-29": (120, group), "<b>": (7, Scores({"multitask": np.nan}))}}
    differences = {"age": {"accuracy, gap to the worst group": {"value": 0.2, "where": "30-39"}}}
    changed = dataclasses.replace(run, groups=groups, group_differences=differences)
    text = Page(render_without_figures(changed)).text
    assert "gap to the worst group30-390.200" in text
    assert "By age" in text and "20-29120" in text and "0.2500.125 to 0.500" in text
    assert "<b>7undefined" in text


def test_page_has_every_protocol(run):
    page = Page(render_without_figures(run))
    accuracy = run.protocols["7 classes, output of contempt dropped"]["scores"]["accuracy"]
    assert f"output of contempt dropped (EmotiEffLib)accuracy{accuracy:.3f}" in page.text
    assert "cleaned labels (EmoNet)not scored: needs the column expression_correct" in page.text


@pytest.mark.slow
def test_page_of_predicted_classes_has_no_probabilities(run, tmp_path):
    predictions = dataclasses.replace(run.predictions, is_hard=True)
    hard = dataclasses.replace(
        run, predictions=predictions, scores=protocol.score(predictions, draws=1), faces={}
    )
    assert run_page.draw_figures(hard).keys() >= {"f1_by_class", "confusion"}
    assert not {"reliability", "precision_recall"} & run_page.draw_figures(hard).keys()


@pytest.mark.parametrize("dark", [False, True])
def test_page_text_has_contrast(text, dark):
    """At least 4.5 for text (WCAG 2.1, level AA)."""
    roots = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#\w+)", roots[1 if dark else 0]))
    for name in ("ink", "muted", "accent"):
        for background in ("page", "tint"):
            assert contrast(colours[name], colours[background]) >= 4.5, (name, background)
    assert contrast(colours["warning-ink"], colours["warning"]) >= 4.5


def test_thumbnails_are_jpegs_of_limited_size():
    ramp = np.linspace(0, 255, 256).astype(np.uint8)
    face = np.broadcast_to(ramp[:, None, None], (256, 256, 3))
    uri = templating.encode_thumbnail(np.ascontiguousarray(face))
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert image.format == "JPEG" and image.size == (128, 128)
    pixels = np.asarray(image).astype(float)
    assert abs(pixels.mean() - face.mean()) < 3 and pixels[0].mean() < 10 < 245 < pixels[-1].mean()


def repeat_to_affectnet_counts(table, per_class: int = 500):
    """Repeats the faces to AffectNet's number of faces per class."""
    rows = np.concatenate(
        [np.resize(np.flatnonzero(table.expression == i), per_class) for i in range(8)]
    )
    arrays = {
        field.name: getattr(table, field.name)[rows]
        for field in dataclasses.fields(table)
        if isinstance(getattr(table, field.name), np.ndarray)
    }
    arrays["id"] = np.array([f"{i}.jpg" for i in range(len(rows))])
    return dataclasses.replace(table, **arrays)


def create_run(predictions, data: str = "affectnet", **about) -> Run:
    scores = protocol.score(predictions, draws=2)
    return Run(
        "mine",
        {"data": data, "split": "validation", "faces": len(predictions), **about},
        scores,
        predictions,
    )


def test_published_scores_are_shown_on_affectnet(run):
    comparable_run = create_run(repeat_to_affectnet_counts(run.predictions))
    text = render_without_figures(comparable_run)
    assert "AffectNet, validation split." in text and "warning" not in text.split("</style>")[1]
    name = "categorical.top1.original.f1.macro"
    card = text[text.index(f'data-score="{name}"') :]
    published = published_scores.select_published(comparable_run)
    assert f"paper {published[name]:.2f}</span></li>" in card[: card.index("</li>") + 5]


@pytest.mark.parametrize("count", [100, 480, 515])
def test_other_faces_in_affectnet_layout_are_not_comparable(run, count):
    comparable_run = create_run(repeat_to_affectnet_counts(run.predictions, count))
    reason = published_scores.why_not_comparable(comparable_run)
    assert "not AffectNet’s" in reason and f"{count} neutral" in reason


MODELS = {
    "categorical": ("probabilities", "classes,curves"),
    "dimensional": ("valence_arousal_predicted", "plane"),
    "units": ("action_units_predicted", "units"),
}


@pytest.mark.parametrize("model", MODELS)
def test_single_model_has_only_its_sections(run, model, monkeypatch):
    monkeypatch.setattr(plotting, "render", lambda panel: np.zeros((2, 2, 3), np.uint8))
    changes = {field: None for name, (field, _) in MODELS.items() if name != model}
    if model != "categorical":
        changes |= {"classes": (), "expression": None}
    comparable_run = create_run(dataclasses.replace(run.predictions, **changes), "mine")
    parsed = Page(run_page.render_html(comparable_run, run_page.draw_figures(comparable_run)))
    ids = {attributes["id"] for attributes in parsed.all("section")}
    for name, (_, sections) in MODELS.items():
        assert ids.issuperset(sections.split(",")) == (name == model)
    assert {name for name, _, _ in parsed.scores} | set(
        parsed.undefined
    ) == comparable_run.scores.values.keys()


def test_edge_cases_have_a_page(tmp_path):
    """One face, an unused class, constant predictions and a unit without labels."""
    predictions = Predictions(
        id=np.array(["a"]),
        classes=("neutral", "happiness", "|odd & <b>"),
        expression=np.array([1]),
        probabilities=np.array([[0.2, 0.8, 0.0]]),
        valence_arousal=np.array([[0.5, 0.5]]),
        valence_arousal_predicted=np.array([[0.5, 0.5]]),
        units=(12, 99),
        action_units=np.array([[1.0, np.nan]]),
        action_units_predicted=np.array([[0.9, 0.1]]),
    )
    parsed = Page(run_page.write_report(create_run(predictions, "mine"), tmp_path).read_text())
    assert (
        parsed.undefined and "|odd & <b>" in parsed.text and "no face is labelled so" in parsed.text
    )


def test_unwritable_folder_raises_one_line(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        run_page.write_report(run, tmp_path / "file")


def test_command_writes_a_page(workdir, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        run_page,
        "draw_figures",
        lambda _: {"confusion": Figure([np.zeros((9, 9, 3), np.uint8)], "", "")},
    )
    out = tmp_path / "new" / "page.html"
    assert command.main([str(workdir), "--out", str(out)]) == 0
    assert "written" in capsys.readouterr().out
    parsed = Page(out.read_text())
    assert "No images of these faces are available" in parsed.text and HOSTILE in parsed.text
    assert (out.parent / "figures" / "confusion.png").is_file()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "out, message",
    [
        ("x" * 300, "the page must end in .html"),
        ("c2.tex", "--out=c2.tex: the page must end in .html"),
        (".", "the page must end in .html"),
        ("folder.html", "cannot be written"),
        ("y/" + "x" * 250 + ".html", "cannot be written"),
    ],
)
def test_bad_output_path_is_one_line(workdir, tmp_path, capsys, monkeypatch, out, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_page, "draw_figures", lambda _: {})
    (tmp_path / "folder.html").mkdir()
    assert command.main([str(workdir), f"--out={out}"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "c2.tex").exists()


def test_command_reports_missing_files(tmp_path, capsys):
    assert command.main([str(tmp_path), "--out", str(tmp_path / "p.html")]) == 2
    assert "no scores.json" in capsys.readouterr().err


def test_strategy_is_inferred_from_a_run(tmp_path):
    workdir = write_run(tmp_path / "run", create_predictions(40), sampling={"name": "up"})
    assert published_scores.infer_strategy(runs.read_run(workdir).config) == "up-sampling"
