"""The page of a run: its numbers, its words, and its manners."""

from __future__ import annotations

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from affect_jax.core.errors import UserError
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions
from affect_jax.report import __main__ as command
from affect_jax.report import page, published_scores, runs
from affect_jax.report.runs import Run
from tests.report.conftest import HOSTILE, table, write_run
from tests.report.reading import Page


@pytest.fixture(scope="module")
def text(written) -> str:
    return (written[0] / "report.html").read_text()


@pytest.fixture(scope="module")
def read(text) -> Page:
    return Page(text)


def without_figures(run: Run) -> str:
    """The page without its figures, which take the time."""
    return page.html(run, {section: [] for section in page.figures(run, {})})


def test_the_numbers_are_those_of_scores_json(read, workdir):
    content = json.loads((workdir / "evaluation/validation/scores.json").read_text())
    defined = {name: value for name, value in content["scores"].items() if value is not None}
    assert {name for name, _, _ in read.scores} == defined.keys()
    for name, value, shown in read.scores:
        assert float(value) == defined[name], name
        assert shown == f"{round(defined[name], 3) + 0.0:.3f}".replace("-", "−"), name
    assert set(read.undefined) == content["undefined"].keys()
    for name, reason in content["undefined"].items():
        assert reason in read.text, name
    for name in protocol.HEADLINES:  # shown before the list of all
        assert sum(shown == name for shown, _, _ in read.scores) >= 2


def test_intervals_stand_beside_their_scores(text, workdir):
    content = json.loads((workdir / "evaluation/validation/scores.json").read_text())
    for name in protocol.HEADLINES:
        low, high = (f"{end:.3f}".replace("-", "−") for end in content["intervals"][name])
        place = text.index(f'data-score="{name}"')
        assert f"{low} to {high}" in text[place : place + 200], name


def test_sections_come_in_the_order_of_reading(read):
    ids = [attributes["id"] for attributes in read.all("section")]
    assert ids == [
        "run", "scores", "classes", "confusion", "curves", "reliability", "plane", "units",
        "training", "faces", "explanations", "all",
    ]  # fmt: skip
    linked = [
        a["href"][1:] for a in read.all("a") if a["href"].startswith("#") and "class" not in a
    ]
    assert linked == ids


def test_it_says_what_was_run(read):
    for fact in (
        "rendered faces (synthetic_faces)", "validation", "alexnet", "cross_entropy", "step 200",
        "0123456789ab", "abcdef012345", "3.5 epochs", "1 x cpu", "4 x accelerator", "numpy",
        "2026-01-02 03:04 UTC", "3 min 00 s", "50 images/s", "learning_rate", "0.01",
        "Where the labels come from: validation: action units annotated of 240 faces.",
    ):  # fmt: skip
        assert fact in read.text, fact


def test_it_needs_nothing_from_elsewhere(text, read):
    for _, attributes in read.elements:
        for name in ("src", "srcset", "href"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), attributes[name][:60]
    assert "default-src 'none'" in text
    assert not read.all("script") and "@import" not in text and "url(" not in text


def test_what_comes_from_outside_is_escaped(text, read):
    assert HOSTILE in read.text  # as text
    assert "<script" not in text and "alert(" in text
    assert any(HOSTILE in image["alt"] for image in read.all("img"))


def test_it_is_well_formed_and_for_every_reader(read):
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    headings = [int(name[1]) for name, _ in read.elements if re.fullmatch("h[1-6]", name)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(headings, headings[1:], strict=False))
    assert read.all("html")[0]["lang"] == "en" and read.all("title")
    for image in read.all("img"):
        assert image["alt"].strip() and {"width", "height"} <= image.keys()
    for cells in read.tables:
        assert [name for name, _ in cells].count("caption") == 1
        assert all("scope" in attributes for name, attributes in cells if name == "th")
    labelled = {a["aria-labelledby"] for a in read.all("section")}
    assert labelled <= set(ids)
    scrolling = [a for a in read.all("div") if a.get("class") == "scroll"]
    assert len(scrolling) == len(read.tables)
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)
    first = next(attributes for name, attributes in read.elements if name == "a")
    assert first == {"class": "skip", "href": "#main"} and "main" in ids


def test_figures_are_files_and_tensorboard_images_too(written):
    folder, images = written
    files = {path.stem: path for path in (folder / "figures").iterdir()}
    assert files.keys() == {
        "f1_by_class", "confusion", "precision_recall", "reliability", "agreement", "density",
        "plane", "units_by_emotion", "learning_curves", "confident_mistakes", "uncertain_faces",
        "far_off_faces", "grad_cam",
    }  # fmt: skip
    assert images.steps == [200]
    assert images.images.keys() == {f"report/{name}" for name in files}
    for name, path in files.items():
        pixels = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))
        np.testing.assert_array_equal(pixels, images.images[f"report/{name}"])
        assert pixels.std() > 5, "an empty picture"


def test_no_number_on_other_data_stands_beside_the_papers(text, read):
    assert read.text.count("Not AffectNet: rendered faces") == 1
    assert 'class="origin loud"' in text
    for cells in read.tables:
        assert not any("paper" in attributes.get("class", "") for _, attributes in cells)
    assert "paper" not in read.text.replace("may be compared with one published", "").lower()


def released(table, per_class: int = 500):
    """The table's faces repeated until there are as many of each class as AffectNet has."""
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


def of(given, data: str = "affectnet", **about) -> Run:
    found = protocol.score(given, draws=2)
    return Run(
        "mine", {"data": data, "split": "validation", "faces": len(given), **about}, found, given
    )


def test_on_affectnet_the_papers_numbers_stand_beside(run):
    given = of(released(run.table))
    text = without_figures(given)
    assert "AffectNet, validation split." in text and "loud" not in text.split("</style>")[1]
    name = "categorical.top1.original.f1.macro"
    place = text.index("<caption>", text.index('id="scores"'))
    row = text[text.index(f'data-score="{name}"', place) :]
    value = f"{published_scores.categorical('weighted-loss')[name]:.2f}"
    assert f'paper">{value}</td>' in row[: row.index("</tr>")]


@pytest.mark.parametrize("count", [100, 480, 515])
def test_faces_in_affectnets_layout_are_not_affectnet(run, count):
    given = of(released(run.table, count))
    reason = published_scores.why_not_comparable(given.about, given.table)
    assert "not AffectNet’s" in reason and f"{count} neutral" in reason


MODELS = {
    "categorical": ("probabilities", "classes,curves"),
    "dimensional": ("valence_arousal_predicted", "plane"),
    "units": ("action_units_predicted", "units"),
}


@pytest.mark.parametrize("model", MODELS)
def test_a_model_alone_has_its_own_sections_only(run, model, tmp_path):
    others = {field: None for name, (field, _) in MODELS.items() if name != model}
    if model != "categorical":
        others |= {"classes": (), "expression": None}
    given = of(dataclasses.replace(run.table, **others), "mine")
    read = Page(page.write(given, tmp_path).read_text())
    ids = {attributes["id"] for attributes in read.all("section")}
    for name, (_, sections) in MODELS.items():
        assert ids.issuperset(sections.split(",")) == (name == model)
    assert {name for name, _, _ in read.scores} | set(read.undefined) == given.scores.values.keys()


def test_awkward_tables_have_a_page(tmp_path):
    """One face; a class that nobody has or predicts; a constant prediction; no label of a unit."""
    one = Predictions(
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
    read = Page(page.write(of(one, "mine"), tmp_path).read_text())
    assert (
        read.undefined and "|odd & <b>" in read.text and "no face is labelled neutral" in read.text
    )


def test_a_folder_that_cannot_be_written_is_one_line(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        page.write(dataclasses.replace(run, explanations=()), tmp_path / "file")


def test_the_command_writes_a_page_from_files(workdir, tmp_path, capsys, monkeypatch):
    drawn = page.figures
    monkeypatch.setattr(page, "figures", lambda *given: drawn(*given) | {"units": [], "plane": []})
    out = tmp_path / "new" / "page.html"
    assert command.main([str(workdir), "--out", str(out)]) == 0
    assert "written" in capsys.readouterr().out
    read = Page(out.read_text())
    assert "These predictions came without pictures" in read.text and HOSTILE in read.text
    assert (out.parent / "figures" / "confusion.png").is_file()


def test_the_command_says_what_is_missing(tmp_path, capsys):
    assert command.main([str(tmp_path), "--out", str(tmp_path / "p.html")]) == 2
    assert "no scores.json" in capsys.readouterr().err


def test_a_run_of_another_config_names_its_strategy(tmp_path):
    workdir = write_run(tmp_path / "run", table(40), sampling={"name": "up"})
    assert published_scores.strategy_of(runs.read(workdir).config) == "up-sampling"
