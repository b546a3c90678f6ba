"""The page in Chromium: upload, webcam, desktop and phone widths, no request to other hosts."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from tests.rendered_scenes import draw_scene

pytestmark = pytest.mark.browser

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
CLIPPED = """[...document.querySelectorAll(".plane text")].filter(text => {
  const inner = text.getBoundingClientRect(), outer = text.closest("svg").getBoundingClientRect();
  return inner.left < outer.left || inner.right > outer.right || inner.top < outer.top - 1;
}).map(text => text.textContent)"""
HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def video_path(tmp_path_factory) -> pathlib.Path:
    """The video of the fake webcam: a sequence of JPEGs."""
    path = tmp_path_factory.mktemp("camera") / "video.mjpeg"
    image, _ = draw_scene([(220, 100, 260)], (640, 480))
    path.write_bytes(simplejpeg.encode_jpeg(image, 90, "RGB", "420") * 5)
    return path


@pytest.fixture(scope="module")
def browser(video_path) -> Iterator:
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    arguments = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={video_path}",
    ]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=arguments, chromium_sandbox=False
        )
        yield browser
        browser.close()


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def page(browser, port, request) -> Iterator:
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    page.set_default_timeout(60_000)
    page.console_messages, page.requested_urls = [], []
    page.on("console", lambda message: page.console_messages.append(message.text))
    page.on("pageerror", lambda error: page.console_messages.append(str(error)))
    page.on("request", lambda request: page.requested_urls.append(request.url))
    page.goto(f"http://127.0.0.1:{port}/")
    yield page
    external_urls = [
        url for url in page.requested_urls
        if not url.startswith((f"http://127.0.0.1:{port}/", "data:", "blob:"))
    ]  # fmt: skip
    page.close()
    assert external_urls == []


def is_wider_than_window(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_uploaded_image_is_shown_with_its_faces(page, predictor, tmp_path):
    image, boxes = draw_scene([(10, 10, 120), (150, 20, 200)])
    Image.fromarray(image).save(tmp_path / HOSTILE)
    page.set_input_files("#files", tmp_path / HOSTILE)
    page.wait_for_selector(".face >> nth=1")
    page.wait_for_selector(".picture img[src]")
    page.eval_on_selector(".picture img[src]", "image => image.decode()")
    prediction = predictor.predict(image)
    assert page.inner_text(".result h2") == HOSTILE
    for index, card in enumerate(page.query_selector_all(".face")):
        likely = int(prediction.expression[index].argmax())
        assert card.query_selector(".likely").inner_text() == prediction.classes[likely]
        probabilities = [
            e.inner_text() for e in card.query_selector_all(".expression dd:not(.track)")
        ]
        assert probabilities == [f"{value:.2f}" for value in prediction.expression[index]]
        widths = [
            e.evaluate("e => e.offsetWidth / e.parentElement.offsetWidth")
            for e in card.query_selector_all(".expression .fill")
        ]
        np.testing.assert_allclose(widths, prediction.expression[index], atol=0.02)
        valence, arousal = prediction.valence_arousal[index]
        caption = f"valence {valence:+.2f}, arousal {arousal:+.2f}".replace("-", "−")
        assert card.query_selector("figcaption").inner_text() == caption
        dot = card.query_selector(".dot")
        assert float(dot.get_attribute("cx")) == pytest.approx(valence, abs=1e-5)
        assert float(dot.get_attribute("cy")) == pytest.approx(-arousal, abs=1e-5)
        units = [e.inner_text() for e in card.query_selector_all(".units dt")]
        assert units == [f"AU{unit}" for unit in prediction.units]
    image_box = page.query_selector(".picture img").bounding_box()
    assert page.evaluate("document.querySelector('.picture img').naturalWidth") == 400
    for rect, box in zip(
        page.query_selector_all(".boxes rect:not(.edge)"), prediction.box, strict=True
    ):
        drawn = rect.bounding_box()
        scale = image_box["width"] / 400
        assert drawn["x"] - image_box["x"] == pytest.approx(max(0, box[0]) * scale, abs=4)
        assert drawn["y"] - image_box["y"] == pytest.approx(max(0, box[1]) * scale, abs=4)
    assert not is_wider_than_window(page)
    assert page.evaluate(CLIPPED) == []
    assert page.console_messages == []


def test_unusable_files_have_a_note(page, tmp_path):
    (tmp_path / "page.jpg").write_text("<html><script>alert(1)</script></html>")
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(13 * 2**20)
    names = ["page.jpg", "noise.png", "large.png"]
    page.set_input_files("#files", [tmp_path / name for name in names])
    for note in ("not an image", "no face found", "larger than 12 MiB"):
        page.wait_for_selector(f".note:has-text('{note}')")
    results = page.query_selector_all(".result")
    notes = {
        r.query_selector("h2").inner_text(): r.query_selector(".note").inner_text() for r in results
    }
    assert notes["page.jpg"].startswith("not an image")
    assert notes["noise.png"] == "no face found"
    assert notes["large.png"] == "the file is larger than 12 MiB"
    assert all("422" in line for line in page.console_messages)  # the browser logs refused requests


def test_webcam_is_predicted_until_stopped(page):
    page.click("#webcam")
    page.wait_for_selector(".face .likely")
    for _ in range(2):  # further frames are predicted too
        with page.expect_response("**/predict") as response:
            pass
        assert len(response.value.json()["faces"]) == 1
    assert page.get_attribute("#webcam", "aria-pressed") == "true"
    assert len(page.query_selector_all(".result")) == 1
    page.click("#webcam")
    page.wait_for_selector(".result", state="detached")
    assert page.inner_text("#webcam") == "Start the webcam"
    assert page.console_messages == [] and not is_wider_than_window(page)
