"""Web server of the demo: serves one page and predicts one image per request.

`POST /predict` takes an image as the whole request body and returns its faces as JSON. There is no
other input: no file names, no paths, no forms. The limits on a request are the constants below. An
image stays in memory until its response is sent, and is never written to disk.

The page loads no fonts, scripts or images from other servers; its Content Security Policy enforces
this. Other sites cannot send requests: a request needs the content type of an image, which browsers
send to another origin only with its permission. Requests with a foreign `Host` header are refused.
"""

from __future__ import annotations

import functools
import http.server
import json
import pathlib
import sys
import threading
import traceback
from typing import Any

from affect_jax.data import face_images
from affect_jax.predict.predictor import Predictor

ALLOWED_HOSTS = ("127.0.0.1", "localhost")
CONTENT_TYPES = ("image/bmp", "image/gif", "image/jpeg", "image/png", "image/webp")
MAX_BYTES = 12 * 2**20
MAX_CONCURRENT_REQUESTS = 4  # images in memory; further requests wait
CONNECTION_TIMEOUT_SECONDS = 60  # without data

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


class Server(http.server.ThreadingHTTPServer):
    """Serves the page for a predictor, which may be set later, on a port of this machine."""

    def __init__(self, port: int, predictor: Predictor | None = None):
        page = pathlib.Path(__file__).with_name("page")
        super().__init__(("127.0.0.1", port), functools.partial(_Handler, directory=str(page)))
        self.predictor = predictor
        self.slots = threading.Semaphore(MAX_CONCURRENT_REQUESTS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client is gone
            super().handle_error(request, client_address)


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Answers one request; `GET` is that of the base class."""

    server: Server
    timeout = CONNECTION_TIMEOUT_SECONDS

    def parse_request(self) -> bool:
        is_valid = super().parse_request()
        if is_valid and self.headers.get("Host", "").split(":")[0] not in ALLOWED_HOSTS:
            self.send_error(400, "Foreign host")
            return False
        if is_valid and "%00" in self.path:  # no name of a file
            self.send_error(404)
            return False
        return is_valid

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing."""

    def do_POST(self) -> None:
        status, answer = self._predict()
        content = json.dumps(answer if status == 200 else {"error": answer}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _predict(self) -> tuple[int, Any]:
        """Returns the status, and the answer or a message."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return 411, "the upload has no length"
        if len(length) > 9 or int(length) > MAX_BYTES:
            return 413, f"the file is larger than {MAX_BYTES >> 20} MiB"
        with self.server.slots:  # also for the upload, to limit the memory
            return self._predict_upload(self.rfile.read(int(length)))

    def _predict_upload(self, content: bytes) -> tuple[int, Any]:
        if self.path.split("?")[0] != "/predict":
            return 404, "no such page"
        if self.headers.get("Content-Type") not in CONTENT_TYPES:
            return 415, f"send one of {', '.join(CONTENT_TYPES)}"
        try:
            assert self.server.predictor is not None
            return 200, predict_image(self.server.predictor, content)
        except face_images.UnusableInputError as error:
            return 422, str(error)
        except Exception:  # out of memory, or an error of the network
            traceback.print_exc()
            return 500, "the prediction failed; the terminal shows the reason"


def predict_image(predictor: Predictor, content: bytes) -> dict[str, Any]:
    """Predicts the faces of an encoded image, the largest first, for `page/demo.js`.

    **Raises:** `UnusableInputError` if the content is not an image or is too large.
    """
    prediction = predictor.predict(face_images.decode_image(content, upright=True))
    heads = ("box", *predictor.output_names)
    return {
        "outputs": {head: {"names": names} for head, names in predictor.output_names.items()},
        "size": prediction.size[0].tolist(),
        "reason": prediction.reasons[0],
        "faces": [
            {head: getattr(prediction, head)[face].tolist() for head in heads}
            for face in range(len(prediction))
        ],
    }
