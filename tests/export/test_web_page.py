"""Web page: predicts in Chromium what ONNX Runtime predicts, and sends nothing."""

from __future__ import annotations

import importlib.resources
import json
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from affect_jax.core.labels import MIN_CERTAIN
from affect_jax.data.face_images import crop_and_resize, decode_image
from affect_jax.export import __main__ as command
from affect_jax.export import web_page
from tests.browsers import launch_chromium
from tests.export.conftest import onnx_session
from tests.rendered_scenes import draw_scene
from tests.trained_runs import create_config, write_run

DIST = "node_modules/onnxruntime-web/dist"
RUNTIME = pathlib.Path(
    os.environ.get("AFFECT_JAX_ONNXRUNTIME_WEB", pathlib.Path(__file__).resolve().parents[2] / DIST)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    if not RUNTIME.is_dir():
        pytest.skip(
            "no onnxruntime-web: npm install onnxruntime-web, or set AFFECT_JAX_ONNXRUNTIME_WEB"
        )
    run = write_run(tmp_path_factory.mktemp("web") / "run", create_config())
    flags = [f"--workdir={run}", "--format=web", f"--onnxruntime_web={RUNTIME}"]
    assert command.main(flags) == 0
    return run / "export" / "web"


@pytest.fixture
def page(folder) -> Iterator:
    arguments = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with launch_chromium(*arguments) as browser:
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.set_default_timeout(60_000)
        page.messages, urls = [], []
        page.on("console", lambda message: page.messages.append(message.text))
        page.on("pageerror", lambda error: page.messages.append(str(error)))
        page.on("request", lambda request: urls.append(request.url))
        page.goto((folder / "index.html").as_uri())
        yield page
        assert page.messages == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in urls)


def test_runs_on_aligned_faces_have_no_page(tmp_path, capsys):
    for name in web_page.RUNTIME.values():
        (tmp_path / name).touch()
    config = create_config(data__name="affectnet", data__options={"align": "eyes"})
    run = write_run(tmp_path / "run", config)
    flags = [f"--workdir={run}", "--format=web", f"--onnxruntime_web={tmp_path}"]
    assert command.main(flags) == 2
    assert "the page cannot find eyes" in capsys.readouterr().err
    assert not (run / "export").exists()


def predict(folder: pathlib.Path, image: np.ndarray, box: tuple[float, ...]) -> list[float]:
    """The values on the page for the face in a box, by ONNX Runtime."""
    card = json.loads((folder / "card.json").read_text())
    face, _ = crop_and_resize(image, box, card["margin"], card["input"]["shape"][1])
    outputs = onnx_session(folder / "model.onnx")(face[None])
    return [*outputs["expression"][0], *outputs["action_units"][0]]


def read_meters(page) -> list[float]:
    return [meter.evaluate("e => e.value") for meter in page.query_selector_all("meter")]


@pytest.mark.browser
@pytest.mark.parametrize(
    "size, name, tolerance",
    [
        ((40, 40), "face.png", 1e-3),
        ((333, 457), "face.png", 1e-3),
        ((24, 90), "face.png", 1e-3),
        ((150, 100), "rotated.jpg", 1e-2),  # browsers enlarge the colours of a JPEG in another way
    ],
)
def test_page_predicts_as_onnx_runtime(page, folder, tmp_path, size, name, tolerance):
    image, _ = draw_scene([(0, 0, min(size))], size)
    exif = Image.Exif()
    exif[0x0112] = 6 if "rotated" in name else 1
    Image.fromarray(image).save(tmp_path / name, exif=exif)
    page.set_input_files("#files", tmp_path / name)
    page.wait_for_selector(".face h3")
    image = decode_image((tmp_path / name).read_bytes(), upright=True)
    height, width = image.shape[:2]
    side = min(width, height)
    expected = predict(folder, image, ((width - side) / 2, (height - side) / 2, side, side))
    np.testing.assert_allclose(read_meters(page), expected, atol=tolerance)
    is_certain = max(expected[:8]) >= MIN_CERTAIN
    assert ("(uncertain)" in page.inner_text(".face h3")) != is_certain
    names = [row.inner_text().split()[0] for row in page.query_selector_all("tr")]
    outputs = json.loads((folder / "card.json").read_text())["outputs"]
    assert names == [*outputs["expression"]["names"], *outputs["action_units"]["names"]]


@pytest.mark.browser
def test_square_follows_click_and_slider(page, folder, tmp_path):
    image, _ = draw_scene([(200, 40, 100)], (400, 200))
    Image.fromarray(image).save(tmp_path / "face.png")
    page.set_input_files("#files", tmp_path / "face.png")
    page.wait_for_selector(".face h3")
    width = page.eval_on_selector(".result img", "image => image.width")
    page.click(".result img", position={"x": width * 5 / 8, "y": width * 9 / 40})
    page.fill("input[type=range]", "0.5")
    expected = predict(folder, image, (200, 40, 100, 100))
    page.wait_for_function(
        "values => [...document.querySelectorAll('meter')]"
        ".every((meter, i) => Math.abs(meter.value - values[i]) < 1e-2)",
        arg=[float(value) for value in expected],
    )
    box = page.eval_on_selector(".box", "e => [e.offsetLeft, e.offsetTop, e.offsetWidth]")
    np.testing.assert_allclose(box, np.array([200, 40, 100]) * width / 400, atol=1.5)


@pytest.mark.browser
def test_webcam_is_predicted_and_nothing_can_be_sent(page):
    page.click("#webcam")
    page.wait_for_selector(".face h3")
    page.click("#webcam")
    page.wait_for_selector(".result", state="detached")
    blocked = page.evaluate(
        """() => new Promise((resolve) => {
          document.addEventListener("securitypolicyviolation", (e) => resolve(e.violatedDirective));
          fetch("http://127.0.0.1:9").catch(() => {});
        })"""
    )
    assert blocked == "connect-src"
    page.messages.clear()  # the browser logs the violation


def test_page_marks_the_same_faces_as_the_command():
    script = importlib.resources.files("affect_jax.demo").joinpath("page", "demo.js").read_text()
    assert f"const MIN_CERTAIN = {MIN_CERTAIN};" in script


def test_missing_runtime_gives_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command.main(["--workdir=run", "--format=web"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and DIST in message and "npm install onnxruntime-web" in message
