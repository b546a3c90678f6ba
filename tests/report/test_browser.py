"""The pages in a real browser, at the widths of a desktop and of a phone."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess

import pytest

from affect_jax.report import comparison, run_page, runs
from tests.report.conftest import create_predictions, write_run
from tests.report.reading import Page

pytestmark = pytest.mark.browser

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
MEASURE = """
<!doctype html><body><iframe src="page.html" width="{width}" height="900"></iframe><script>
window.onload = () => {{
  const page = document.querySelector("iframe").contentDocument;
  const root = page.documentElement;
  const wide = [...page.querySelectorAll("body *")].filter(
    e => !e.closest(".scroll > *") && e.getBoundingClientRect().right > root.clientWidth + 1);
  const broken = [...page.images].filter(e => !e.complete || !e.naturalWidth);
  document.body.dataset.measured = JSON.stringify({{
    client: root.clientWidth, scroll: root.scrollWidth,
    wide: wide.map(e => e.outerHTML.slice(0, 80)),
    broken: broken.length, images: page.images.length,
    narrow: [...page.querySelectorAll("picture img")].filter(e => e.currentSrc !== e.src).length,
    pictures: page.querySelectorAll("picture").length }});
}};
</script></body>
"""


def browse(page: pathlib.Path, folder: pathlib.Path) -> tuple[str, list[str]]:
    """Returns the loaded page's DOM and the browser's console messages."""
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
        "--disable-dev-shm-usage", "--enable-logging=stderr", f"--user-data-dir={folder}/profile",
        "--virtual-time-budget=20000", "--window-size=1400,1000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    process = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout, re.findall(r".*CONSOLE.*", process.stderr)


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


@pytest.fixture(params=["report", "comparison"])
def page(request, written, compared) -> pathlib.Path:
    return written[0] / "report.html" if request.param == "report" else compared


@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_the_window_without_console_messages(page, width, tmp_path):
    shutil.copy(page, tmp_path / "page.html")
    (tmp_path / "frame.html").write_text(MEASURE.format(width=width))
    dom, console = browse(tmp_path / "frame.html", tmp_path)
    assert console == []
    measured = json.loads(Page(dom).all("body")[0]["data-measured"])
    assert width - 20 <= measured["client"] <= width  # the frame's scroll bar
    assert measured["scroll"] <= measured["client"], measured["wide"]
    assert measured["wide"] == []
    assert measured["images"] and not measured["broken"]
    assert measured["narrow"] == (measured["pictures"] if width == 390 else 0)


def test_measurement_detects_errors(tmp_path):
    """A page that is too wide, has a broken image and writes to the console."""
    wide = '<div style="width: 2000px">x</div><img src="data:image/png;base64,AAAA">'
    (tmp_path / "page.html").write_text(f"{wide}<script>console.error('no')</script>")
    (tmp_path / "frame.html").write_text(MEASURE.format(width=390))
    dom, console = browse(tmp_path / "frame.html", tmp_path)
    measured = json.loads(Page(dom).all("body")[0]["data-measured"])
    assert measured["scroll"] >= 2000 and len(measured["wide"]) == 1 and measured["broken"] == 1
    assert len(console) == 1 and "no" in console[0]


def test_browser_shows_the_scores_of_scores_json(written, run, tmp_path):
    dom, console = browse(written[0] / "report.html", tmp_path)
    assert console == []
    displayed = {name: float(value) for name, value, _ in Page(dom).scores}
    defined = {name: value for name, value in run.scores.values.items() if value == value}
    assert displayed == defined


def test_long_names_do_not_widen_the_page(tmp_path):
    """A class, an id and a dataset without line break opportunities."""
    predictions = create_predictions(40)
    name = "x" * 90
    predictions = dataclasses.replace(
        predictions, classes=(*predictions.classes[:7], "unbroken" * 6)
    )
    workdir = write_run(tmp_path / name, predictions, data="d" * 120)
    path = run_page.write_report(runs.read_run(workdir), tmp_path / "out", page="page.html")
    (path.parent / "frame.html").write_text(MEASURE.format(width=390))
    dom, _ = browse(path.parent / "frame.html", tmp_path)
    measured = json.loads(Page(dom).all("body")[0]["data-measured"])
    assert measured["scroll"] <= measured["client"], measured["wide"]
