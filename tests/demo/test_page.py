"""The page in Chromium: upload, webcam, desktop and phone widths, no request to other hosts."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from tests.browsers import launch_chromium
from tests.rendered_scenes import draw_scene

pytestmark = pytest.mark.browser

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
    arguments = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with launch_chromium(*arguments, f"--use-file-for-fake-video-capture={video_path}") as browser:
        yield browser


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
    image, _ = draw_scene([(10, 10, 120), (150, 20, 200)])
    Image.fromarray(image).save(tmp_path / HOSTILE)
    page.set_input_files("#files", tmp_path / HOSTILE)
    page.wait_for_selector(".face >> nth=1")
    page.eval_on_selector(".result img", "image => image.decode()")
    assert page.evaluate("document.querySelector('.result img').naturalWidth") == 400
    assert page.inner_text(".result h2") == HOSTILE
    prediction = predictor.predict(image)
    for index, card in enumerate(page.query_selector_all(".face")):
        likely = int(prediction.expression[index].argmax())
        title = f"{index + 1} {prediction.classes[likely]}"
        title += " (uncertain)" * bool(prediction.uncertain[index])
        assert card.query_selector("h3").inner_text() == title
        valence, arousal = prediction.valence_arousal[index]
        axes = f"valence {valence:.2f}, arousal {arousal:.2f}"
        assert card.query_selector(".axes").inner_text() == axes
        rows = [row.inner_text().split() for row in card.query_selector_all("tr")]
        names = [*prediction.classes, *(f"AU{unit}" for unit in prediction.units)]
        values = [*prediction.expression[index], *prediction.action_units[index]]
        assert rows == [[name, f"{v:.2f}"] for name, v in zip(names, values, strict=True)]
        meters = [meter.evaluate("e => e.value") for meter in card.query_selector_all("meter")]
        np.testing.assert_allclose(meters, values, atol=1e-6)
        width = "e => e.offsetWidth / e.closest('.face').offsetWidth"
        assert card.query_selector("meter").evaluate(width) > 0.4
    offsets = "boxes => boxes.map(e => [e.offsetLeft, e.offsetTop, e.offsetWidth, e.offsetHeight])"
    boxes = np.array(page.eval_on_selector_all(".box", offsets))
    scale = page.evaluate("document.querySelector('.result img').width") / 400
    np.testing.assert_allclose(boxes, prediction.box * scale, atol=1)
    assert not is_wider_than_window(page)
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
    page.wait_for_selector(".face h3")
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
