"""What a request gets: faces for an image, a short refusal for anything else, nothing kept."""

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
from tests.pictures_of_faces import scene

NOISE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def ask(port):
    """Status, headers and body of one request."""

    def request(method="POST", path="/predict", body=b"", kind="image/png", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        sent = {"Content-Type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection.putrequest(method, path, skip_host="Host" in sent)
        for name, value in ({"Content-Length": str(len(body))} | sent).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    return request


def refusal(answer) -> tuple[int, str]:
    return answer[0], json.loads(answer[2])["error"]


def test_an_image_is_answered_with_what_the_predictor_says(ask, predictor):
    picture, _ = scene([(10, 10, 120), (150, 20, 200)])
    status, _, content = ask(body=encoded(picture))
    found, wanted = json.loads(content), predictor.predict(picture)
    assert status == 200 and (found["width"], found["height"]) == (400, 300)
    assert found["reason"] == "" and found["left_out"] == 0 and len(found["faces"]) == 2
    for face, one in enumerate(found["faces"]):
        np.testing.assert_allclose(one["box"], wanted.box[face], atol=1e-4)
        assert [e["name"] for e in one["expression"]] == list(wanted.classes)
        values = [e["value"] for e in one["expression"]]
        np.testing.assert_allclose(values, wanted.expression[face], atol=1e-5)
        axes = [one["valence"], one["arousal"]]
        np.testing.assert_allclose(axes, wanted.valence_arousal[face], atol=1e-5)
        assert [u["name"] for u in one["action_units"]] == [f"AU{u}" for u in wanted.units]


def test_a_turned_photograph_is_turned_upright(ask):
    picture, _ = scene([(150, 20, 200)])
    exif = Image.Exif()
    exif[0x0112] = 6
    _, _, turned = ask(body=encoded(np.rot90(picture), exif=exif))
    _, _, upright = ask(body=encoded(picture))
    assert json.loads(turned) == json.loads(upright)


@pytest.mark.parametrize("kind", list(server.TYPES))
def test_each_type_is_read_and_an_image_without_a_face_says_so(ask, kind):
    status, _, content = ask(body=encoded(NOISE, kind), kind=server.TYPES[kind])
    found = json.loads(content)
    assert (status, found["faces"], found["reason"]) == (200, [], "no face found")


def test_of_many_faces_the_largest_are_told_and_the_others_counted(ask, monkeypatch):
    monkeypatch.setattr(server, "MAX_FACES", 1)
    picture, _ = scene([(10, 10, 120), (150, 20, 200)])
    found = json.loads(ask(body=encoded(picture))[2])
    assert len(found["faces"]) == 1 and found["left_out"] == 1 and found["faces"][0]["box"][0] > 100


def bomb(side: int) -> bytes:
    """A PNG whose header tells of `side` x `side` pixels, and that has none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one))
             for one in (header, b"IDAT")]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


HTML = b"<!doctype html><script>alert(1)</script>" * 20


@pytest.mark.parametrize(
    "body, kind, status, reason",
    [
        (HTML, "image/jpeg", 422, "not an image"),  # a page that is named .jpg
        (pickle.dumps(print), "image/png", 422, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image/png", 422, "not an image"),
        (b"P6 4 4 255 " + bytes(48), "image/bmp", 422, "not an image"),  # an image of another kind
        (b"", "image/png", 422, "not an image"),
        (encoded(NOISE)[:2000], "image/png", 422, "image is truncated"),
        (encoded(NOISE), "text/html", 415, "send one of BMP"),
        (encoded(NOISE), "application/x-www-form-urlencoded", 415, "send one of BMP"),
        (encoded(NOISE), "multipart/form-data; boundary=x", 415, "send one of BMP"),
        (encoded(NOISE), "image/svg+xml", 415, "send one of BMP"),
        (encoded(np.zeros((5000, 5000), np.uint8)), "image/png", 422, "more than 24 megapixels"),
        (bomb(20_000), "image/png", 422, "more than 24 megapixels"),
    ],
)
def test_what_is_no_image_is_refused(ask, body, kind, status, reason):
    found = refusal(ask(body=body, kind=kind))
    assert found[0] == status and reason in found[1]


def test_what_is_too_large_is_refused_before_it_has_arrived(ask, port):
    assert refusal(ask(Content_Length=str(10**12))) == (413, "the file has more than 12 MiB")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        part = b"100000\r\n" + bytes(2**20) + b"\r\n"
        for _ in range(13):  # of a stream whose end nobody knows
            connection.sendall(part)
        assert connection.recv(12) == b"HTTP/1.1 413"


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
def test_no_path_leads_to_a_file(ask, path):
    status, _, content = ask("GET", path)
    assert status in (404, 405) and b"root:" not in content and b"import" not in content


def test_names_in_a_request_are_not_read(ask):
    plain = ask(body=encoded(NOISE))
    named = ask(
        path="/predict?file=../../etc/passwd&checkpoint=$(id)",
        body=encoded(NOISE),
        Content_Disposition='attachment; filename="../../x.pkl"',
    )
    assert named[0] == 200 and named[2] == plain[2]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
def test_another_hosts_name_is_refused(ask, host):
    """A page elsewhere whose name was made to point at this machine."""
    assert ask("GET", "/", Host=host)[0] == 400
    assert ask(body=encoded(NOISE), Host=host)[0] == 400


def test_other_sites_get_no_permission_to_ask(ask):
    status, headers, _ = ask("OPTIONS", Origin="http://evil.example")
    assert status == 405 and not any(name.lower().startswith("access-control") for name in headers)


def test_the_page_is_whole_and_may_load_nothing_from_elsewhere(ask):
    for path in server.PAGE:
        status, headers, content = ask("GET", path)
        assert status == 200 and content
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and "//" not in text.replace("// ", "")


def test_one_too_many_at_once_is_told_to_try_again(ask, predictor, monkeypatch):
    free, arrived = threading.Event(), threading.Semaphore(0)

    def slow(*_):
        arrived.release()
        assert free.wait(60)
        return predictor.nothing("no face found")

    monkeypatch.setattr(predictor, "find", slow)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(body=encoded(NOISE))[0]))
        for _ in range(server.MAX_AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert arrived.acquire(timeout=60)
    try:
        assert refusal(ask(body=encoded(NOISE)))[0] == 503
    finally:
        free.set()
        for thread in threads:
            thread.join()
    assert answers == [200] * server.MAX_AT_ONCE
    monkeypatch.undo()
    assert ask(body=encoded(NOISE))[0] == 200  # places are given back


ACTS: list[tuple] = []
WATCHING = threading.Event()


def _watch(event: str, details: tuple) -> None:
    if WATCHING.is_set():
        writes = event == "open" and isinstance(details[1], str) and set(details[1]) & set("wax+")
        if writes or event.startswith(
            ("subprocess.", "os.system", "os.exec", "os.spawn", "os.posix")
        ):
            ACTS.append((event, details))
        if event in ("pickle.find_class", "exec", "import", "tempfile.mkstemp", "tempfile.mkdtemp"):
            ACTS.append((event, details))


def test_nothing_is_written_unpickled_or_started(ask):
    sys.addaudithook(_watch)
    bodies = [encoded(scene([(150, 20, 200)])[0]), encoded(NOISE), HTML, encoded(NOISE)[:999]]
    for body in bodies:
        ask(body=body)  # whatever is loaded at first use is loaded
    WATCHING.set()
    try:
        for body in bodies:
            ask(body=body)
    finally:
        WATCHING.clear()
    assert [act for act in ACTS if act[0] != "import"] == []
    ACTS.clear()
    WATCHING.set()
    open("/dev/null", "w").close()
    WATCHING.clear()
    assert [act[0] for act in ACTS] == ["open"]  # the watch itself works
