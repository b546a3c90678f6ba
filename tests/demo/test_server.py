"""Web server of the demo: predictions for images, errors for anything else, nothing stored."""

from __future__ import annotations

import http.client
import io
import json
import pickle
import socket
import struct
import sys
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from affect_jax.demo import server
from tests.rendered_scenes import draw_scene

NOISE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


def encode_image(pixels: np.ndarray, image_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.fixture
def send_request(port):
    """Sends a request; returns status, headers and body of the response."""

    def request(method="POST", path="/predict", body=b"", content_type="image/png", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        all_headers = {
            "Content-Type": content_type,
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        connection.putrequest(method, path, skip_host="Host" in all_headers)
        for name, value in ({"Content-Length": str(len(body))} | all_headers).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, dict(response.getheaders()), content

    return request


def parse_error(response) -> tuple[int, str]:
    return response[0], json.loads(response[2])["error"]


def test_response_contains_the_predictions(send_request, predictor):
    image, _ = draw_scene([(10, 10, 120), (150, 20, 200)])
    status, _, content = send_request(body=encode_image(image))
    answer, expected = json.loads(content), predictor.predict(image)
    assert status == 200 and answer["size"] == [400, 300]
    assert answer["reason"] == "" and len(answer["faces"]) == 2
    names = {head: output["names"] for head, output in answer["outputs"].items()}
    assert names["expression"] == list(expected.classes)
    assert names["valence_arousal"] == ["valence", "arousal"]
    assert names["action_units"] == [f"AU{unit}" for unit in expected.units]
    for index, face in enumerate(answer["faces"]):
        for key, values in face.items():
            np.testing.assert_allclose(values, getattr(expected, key)[index], atol=1e-4)


def test_rotated_photograph_is_turned_upright(send_request):
    image, _ = draw_scene([(150, 20, 200)])
    exif = Image.Exif()
    exif[0x0112] = 6
    _, _, rotated = send_request(body=encode_image(np.rot90(image), exif=exif))
    _, _, upright = send_request(body=encode_image(image))
    assert json.loads(rotated) == json.loads(upright)


@pytest.mark.parametrize("image_format", ["BMP", "GIF", "JPEG", "PNG", "WEBP"])
def test_accepts_each_type_and_gives_a_reason_without_a_face(send_request, image_format):
    status, _, content = send_request(
        body=encode_image(NOISE, image_format), content_type=f"image/{image_format.lower()}"
    )
    answer = json.loads(content)
    assert (status, answer["faces"], answer["reason"]) == (200, [], "no face found")


def create_decompression_bomb(side: int) -> bytes:
    """A PNG whose header declares `side` x `side` pixels, without pixel data."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
             for chunk in (header, b"IDAT")]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


HTML = b"<!doctype html><script>alert(1)</script>" * 20


@pytest.mark.parametrize(
    "body, content_type, status, reason",
    [
        (HTML, "image/jpeg", 422, "not an image"),  # an HTML page named .jpg
        (pickle.dumps(print), "image/png", 422, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image/png", 422, "not an image"),
        (b"", "image/png", 422, "not an image"),
        (encode_image(NOISE)[:2000], "image/png", 422, "image is truncated"),
        (encode_image(NOISE), "text/html", 415, "send one of image/bmp"),
        (encode_image(NOISE), "application/x-www-form-urlencoded", 415, "send one of image/bmp"),
        (encode_image(NOISE), "multipart/form-data; boundary=x", 415, "send one of image/bmp"),
        (encode_image(NOISE), "image/svg+xml", 415, "send one of image/bmp"),
        (create_decompression_bomb(9000), "image/png", 422, "more than 64 megapixels"),
        (create_decompression_bomb(20_000), "image/png", 422, "more than 64 megapixels"),
    ],
)
def test_invalid_images_are_refused(send_request, body, content_type, status, reason):
    error = parse_error(send_request(body=body, content_type=content_type))
    assert error[0] == status and reason in error[1]


def test_large_upload_is_refused_before_it_ends(send_request):
    answer = parse_error(send_request(Content_Length=str(10**12)))
    assert answer == (413, "the file is larger than 12 MiB")
    for length in ("", "-1", "x"):  # a chunked upload has none
        assert parse_error(send_request(Content_Length=length))[0] == 411


HALF_UPLOAD = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    b"Content-Length: 9999\r\n\r\nhalf"
)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: loc", HALF_UPLOAD])
def test_connection_without_a_whole_request_is_closed(send_request, port, monkeypatch, sent):
    monkeypatch.setattr(server._Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(sent)
        assert connection.recv(1) == b""
    monkeypatch.undo()
    assert send_request("GET", "/")[0] == 200


def test_connection_serves_one_request(port):
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request * 2)
        content = connection.makefile("rb").read()
    assert content.count(b" 200 OK") == 1 and content.endswith(b"</html>\n")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc/passwd",
        "/demo.js/../server.py",
        "/server.py",
        "/page/index.html",
        "//etc/passwd",
        "/predict?path=/etc/passwd",
        "/file=/etc/passwd",
        "/openapi.json",
    ],
)
def test_no_path_exposes_a_file(send_request, path):
    status, _, content = send_request("GET", path)
    assert status == 404 and b"root:" not in content and b"import" not in content


def test_names_in_a_request_are_ignored(send_request):
    expected = send_request(body=encode_image(NOISE))
    response = send_request(
        path="/predict?file=../../etc/passwd&checkpoint=$(id)",
        body=encode_image(NOISE),
        Content_Disposition='attachment; filename="../../x.pkl"',
    )
    assert response[0] == 200 and response[2] == expected[2]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
def test_foreign_host_is_refused(send_request, host):
    """DNS rebinding: a foreign host name that resolves to this machine."""
    assert send_request("GET", "/", Host=host)[0] == 400
    assert send_request(body=encode_image(NOISE), Host=host)[0] == 400


def test_cross_origin_requests_are_not_allowed(send_request):
    status, headers, _ = send_request("OPTIONS", Origin="http://evil.example")
    assert status == 501 and not any(name.lower().startswith("access-control") for name in headers)


def test_page_is_complete_and_loads_nothing_external(send_request):
    for path in ("/", "/demo.js", "/demo.css"):
        status, headers, content = send_request("GET", path)
        assert status == 200 and content
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and "//" not in text.replace("// ", "")


def test_further_requests_wait(send_request, predictor, monkeypatch):
    release, arrived = threading.Event(), threading.Semaphore(0)

    def slow(*_, **__):
        arrived.release()
        assert release.wait(60)
        return predict(NOISE)

    predict = predictor.predict
    monkeypatch.setattr(predictor, "predict", slow)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(send_request(body=encode_image(NOISE))[0]))
        for _ in range(server.MAX_CONCURRENT_REQUESTS + 1)
    ]
    for thread in threads:
        thread.start()
    for _ in threads[1:]:
        assert arrived.acquire(timeout=60)
    assert not arrived.acquire(blocking=False)
    release.set()
    for thread in threads:
        thread.join()
    assert statuses == [200] * len(threads)


@pytest.mark.bad_input
def test_failed_prediction_is_an_answer(send_request, predictor, monkeypatch):
    monkeypatch.setattr(predictor, "predict", lambda *_, **__: 1 / 0)
    status, message = parse_error(send_request(body=encode_image(NOISE)))
    assert status == 500 and "the prediction failed" in message


EVENTS: list[tuple] = []
IS_WATCHING = threading.Event()


def record_event(event: str, details: tuple) -> None:
    if IS_WATCHING.is_set():
        writes = event == "open" and isinstance(details[1], str) and set(details[1]) & set("wax+")
        if writes or event.startswith(
            ("subprocess.", "os.system", "os.exec", "os.spawn", "os.posix")
        ):
            EVENTS.append((event, details))
        if event in ("pickle.find_class", "exec", "import", "tempfile.mkstemp", "tempfile.mkdtemp"):
            EVENTS.append((event, details))


def test_requests_write_unpickle_and_execute_nothing(send_request):
    sys.addaudithook(record_event)
    bodies = [
        encode_image(draw_scene([(150, 20, 200)])[0]),
        encode_image(NOISE),
        HTML,
        encode_image(NOISE)[:999],
    ]
    for body in bodies:
        send_request(body=body)  # lazy imports of the first request
    IS_WATCHING.set()
    try:
        for body in bodies:
            send_request(body=body)
    finally:
        IS_WATCHING.clear()
    assert [event for event in EVENTS if event[0] != "import"] == []
    EVENTS.clear()
    IS_WATCHING.set()
    open("/dev/null", "w").close()
    IS_WATCHING.clear()
    assert [event[0] for event in EVENTS] == ["open"]  # the audit hook works
