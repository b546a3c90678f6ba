"""The pages in Chromium, at the widths of a desktop and of a phone."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

import pytest

from affect_jax.report import comparison, run_page, runs
from tests.browsers import launch_chromium
from tests.report.conftest import create_predictions, write_run

pytestmark = pytest.mark.browser
MEASURE = """() => {
  const root = document.documentElement;
  const isWide = e => e.getBoundingClientRect().right > root.clientWidth + 1;
  const elements = [...document.querySelectorAll("body *")];
  const panels = [...document.querySelectorAll(".panels")];
  return {
    wide: elements.filter(e => !e.closest(".scroll > *") && isWide(e)).map(e => e.outerHTML),
    broken: [...document.images].filter(e => !e.complete || !e.naturalWidth).length,
    images: document.images.length,
    rows: panels.map(e => new Set([...e.children].map(image => image.offsetTop)).size),
  };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with launch_chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser):
    """Opens a file in a window of some width; returns the page and its console messages."""
    pages = []

    def open_file(path: pathlib.Path, width: int):
        page = browser.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        messages: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        page.goto(path.as_uri())
        return page, messages

    yield open_file
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def compared(workdir, tmp_path_factory) -> pathlib.Path:
    """A comparison of two runs, one with a long name."""
    folder = tmp_path_factory.mktemp("compared")
    second = write_run(
        folder / "better_by_some_and_with_a_long_name", create_predictions(skill=1.3)
    )
    path = folder / "page.html"
    comparison.write_comparison(comparison.read_runs([workdir, second]), path)
    return path


@pytest.mark.parametrize(
    "name, width, rows",
    [("report", 1280, 1), ("report", 390, 2), ("comparison", 1280, 2), ("comparison", 390, 5)],
)
def test_page_fits_the_window_without_console_messages(
    name, width, rows, written, compared, open_page
):
    path = written / "report.html" if name == "report" else compared
    page, messages = open_page(path, width)
    measured = page.evaluate(MEASURE)
    assert messages == [] and measured["wide"] == []
    assert measured["images"] and not measured["broken"]
    # The panels of the first figure are next to each other on a desktop.
    assert measured["rows"][0] == rows


def test_measurement_detects_errors(tmp_path, open_page):
    """A page that is too wide, has a broken image and writes to the console."""
    path = tmp_path / "page.html"
    wide = '<div style="width: 2000px">x</div><img src="data:image/png;base64,AAAA">'
    path.write_text(f"{wide}<script>console.error('no')</script>")
    page, messages = open_page(path, 390)
    measured = page.evaluate(MEASURE)
    assert len(measured["wide"]) == 1 and measured["broken"] == 1 and messages == ["no"]


def test_long_names_do_not_widen_the_page(tmp_path, open_page):
    """A class, an id and a dataset without line break opportunities."""
    predictions = create_predictions(40)
    predictions = dataclasses.replace(
        predictions, classes=(*predictions.classes[:7], "unbroken" * 6)
    )
    workdir = write_run(tmp_path / ("x" * 90), predictions, data="d" * 120)
    path = run_page.write_report(runs.read_run(workdir), tmp_path / "out")
    page, _ = open_page(path, 390)
    assert page.evaluate(MEASURE)["wide"] == []
