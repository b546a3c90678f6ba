"""The page in a real browser: an upload, a webcam, a phone; nothing is asked of another machine."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from tests.pictures_of_faces import scene

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
CLIPPED = """[...document.querySelectorAll(".plane text")].filter(text => {
  const inner = text.getBoundingClientRect(), outer = text.closest("svg").getBoundingClientRect();
  return inner.left < outer.left || inner.right > outer.right || inner.top < outer.top - 1;
}).map(text => text.textContent)"""
HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> pathlib.Path:
    """What the webcam sees: JPEGs in a row."""
    path = tmp_path_factory.mktemp("camera") / "film.mjpeg"
    picture, _ = scene([(220, 100, 260)], (640, 480))
    path.write_bytes(simplejpeg.encode_jpeg(picture, 90, "RGB", "420") * 5)
    return path


@pytest.fixture(scope="module")
def browser(film) -> Iterator:
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    arguments = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    ]
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=CHROMIUM, args=arguments, chromium_sandbox=False
        )
        yield found
        found.close()


@pytest.fixture(params=[1280, 390], ids=["desk", "phone"])
def page(browser, port, request) -> Iterator:
    opened = browser.new_page(viewport={"width": request.param, "height": 900})
    opened.set_default_timeout(60_000)
    opened.said, opened.asked = [], []
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.goto(f"http://127.0.0.1:{port}/")
    yield opened
    elsewhere = [
        url for url in opened.asked
        if not url.startswith((f"http://127.0.0.1:{port}/", "data:", "blob:"))
    ]  # fmt: skip
    opened.close()
    assert elsewhere == []


def is_wider_than_the_window(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_an_uploaded_picture_is_drawn_with_its_faces(page, predictor, tmp_path):
    picture, boxes = scene([(10, 10, 120), (150, 20, 200)])
    Image.fromarray(picture).save(tmp_path / HOSTILE)
    page.set_input_files("#files", tmp_path / HOSTILE)
    page.wait_for_selector(".face >> nth=1")
    page.wait_for_selector(".picture img[src]")
    page.eval_on_selector(".picture img[src]", "image => image.decode()")
    found = predictor.predict(picture)
    assert page.inner_text(".result h2") == HOSTILE
    for place, card in enumerate(page.query_selector_all(".face")):
        likely = int(found.expression[place].argmax())
        assert card.query_selector(".likely").inner_text() == found.classes[likely]
        shown = [e.inner_text() for e in card.query_selector_all(".expression dd:not(.track)")]
        assert shown == [f"{value:.2f}" for value in found.expression[place]]
        widths = [
            e.evaluate("e => e.offsetWidth / e.parentElement.offsetWidth")
            for e in card.query_selector_all(".expression .fill")
        ]
        np.testing.assert_allclose(widths, found.expression[place], atol=0.02)
        valence, arousal = found.valence_arousal[place]
        said = f"valence {valence:+.2f}, arousal {arousal:+.2f}".replace("-", "−")
        assert card.query_selector("figcaption").inner_text() == said
        dot = card.query_selector(".dot")
        assert float(dot.get_attribute("cx")) == pytest.approx(valence, abs=1e-5)
        assert float(dot.get_attribute("cy")) == pytest.approx(-arousal, abs=1e-5)
        units = [e.inner_text() for e in card.query_selector_all(".units dt")]
        assert units == [f"AU{unit}" for unit in found.units]
    image = page.query_selector(".picture img").bounding_box()
    assert page.evaluate("document.querySelector('.picture img').naturalWidth") == 400
    for rect, box in zip(page.query_selector_all(".boxes rect:not(.edge)"), found.box, strict=True):
        drawn = rect.bounding_box()
        scale = image["width"] / 400
        assert drawn["x"] - image["x"] == pytest.approx(max(0, box[0]) * scale, abs=4)
        assert drawn["y"] - image["y"] == pytest.approx(max(0, box[1]) * scale, abs=4)
    assert not is_wider_than_the_window(page)
    assert page.evaluate(CLIPPED) == []
    assert page.said == []


def test_what_cannot_be_used_is_said_beside_its_name(page, tmp_path):
    (tmp_path / "page.jpg").write_text("<html><script>alert(1)</script></html>")
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(13 * 2**20)
    names = ["page.jpg", "noise.png", "large.png"]
    page.set_input_files("#files", [tmp_path / name for name in names])
    for told in ("not an image", "no face found", "more than 12 MiB"):
        page.wait_for_selector(f".note:has-text('{told}')")
    results = page.query_selector_all(".result")
    told = {
        r.query_selector("h2").inner_text(): r.query_selector(".note").inner_text() for r in results
    }
    assert told["page.jpg"].startswith("not an image")
    assert told["noise.png"] == "no face found"
    assert told["large.png"] == "the file has more than 12 MiB"
    assert all("422" in line for line in page.said)  # the browser's own word for a refusal


def test_the_webcam_is_followed_until_it_is_stopped(page):
    page.click("#webcam")
    page.wait_for_selector(".face .likely")
    for _ in range(2):  # and further frames
        with page.expect_response("**/predict") as answer:
            pass
        assert len(answer.value.json()["faces"]) == 1
    assert page.get_attribute("#webcam", "aria-pressed") == "true"
    assert len(page.query_selector_all(".result")) == 1
    page.click("#webcam")
    page.wait_for_selector(".result", state="detached")
    assert page.inner_text("#webcam") == "Start the webcam"
    assert page.said == [] and not is_wider_than_the_window(page)
