"""Web server of the demo: serves one page and predicts one image per request.

`POST /predict` takes an image as the whole request body and returns its faces as JSON. There is no
other input: no file names, no paths, no forms. The limits on a request are the constants below. An
image stays in memory until its response is sent, and is never written to disk.

The page loads no fonts, scripts or images from other servers; its Content Security Policy enforces
this. Other sites cannot send requests: a request needs the content type of an image, which browsers
send to another origin only with its permission. Requests with a foreign `Host` header are refused.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import io
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from affect_jax.core.labels import AXES
from affect_jax.data import face_images
from affect_jax.predict.predictor import Predictor

ALLOWED_HOSTS = ("127.0.0.1", "localhost")
CONTENT_TYPES = {"BMP": "image/bmp", "GIF": "image/gif", "JPEG": "image/jpeg", "PNG": "image/png"}
CONTENT_TYPES |= {"WEBP": "image/webp"}
MAX_BYTES = 12 * 2**20
MAX_PIXELS = 24_000_000
MAX_FACES = 20  # per image; only the largest are predicted
MAX_CONCURRENT_REQUESTS = 4  # images in prediction or waiting for it
UPLOAD_TIMEOUT_SECONDS = 30

PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/demo.js": ("demo.js", "text/javascript"),
    "/demo.css": ("demo.css", "text/css"),
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class RequestError(Exception):
    """A request that is refused.

    **Arguments:**

    - `status`: HTTP status code.
    - `reason`: message that the page shows.
    """

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


def create_app(predictor: Predictor) -> Starlette:
    """Creates the web application for a predictor."""
    num_requests = 0

    async def predict(request: Request) -> Response:
        nonlocal num_requests
        if num_requests >= MAX_CONCURRENT_REQUESTS:
            return _error_response(RequestError(503, "busy with other images; try again"))
        num_requests += 1
        try:
            content = await asyncio.wait_for(_read_body(request), UPLOAD_TIMEOUT_SECONDS)
            answer = await run_in_threadpool(predict_image, predictor, content)
            return JSONResponse(answer, headers=HEADERS)
        except RequestError as error:
            return _error_response(error)
        except (TimeoutError, ClientDisconnect):
            return _error_response(RequestError(408, "the upload did not finish"))
        finally:
            num_requests -= 1

    routes = [Route("/predict", predict, methods=["POST"])]
    routes += [
        Route(path, _serve_file(name, content_type), methods=["GET"])
        for path, (name, content_type) in PAGE_FILES.items()
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=list(ALLOWED_HOSTS), www_redirect=False)
    return Starlette(routes=routes, middleware=[hosts])


def _error_response(error: RequestError) -> Response:
    return JSONResponse({"error": error.reason}, error.status, headers=HEADERS)


def _serve_file(name: str, content_type: str) -> Callable[[Request], Awaitable[Response]]:
    """Reads a file of the page once, so that no request can select a file."""
    content = importlib.resources.files("affect_jax.demo").joinpath("page", name).read_bytes()

    async def respond(_: Request) -> Response:
        return Response(content, media_type=content_type, headers=HEADERS)

    return respond


async def _read_body(request: Request) -> bytes:
    """Reads the uploaded image.

    **Raises:** `RequestError` for another content type, and as soon as the size exceeds the limit.
    """
    content_type = request.headers["content-type"] if "content-type" in request.headers else ""
    if content_type not in CONTENT_TYPES.values():
        raise RequestError(415, f"send one of {', '.join(CONTENT_TYPES)}")
    too_large = RequestError(413, f"the file is larger than {MAX_BYTES >> 20} MiB")
    length = request.headers["content-length"] if "content-length" in request.headers else "0"
    if not length.isdigit() or int(length) > MAX_BYTES:
        raise too_large
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BYTES:
            raise too_large
    return bytes(content)


def predict_image(predictor: Predictor, content: bytes) -> dict[str, Any]:
    """Predicts the faces of an encoded image.

    **Returns:** `width`, `height`, `reason` (why there is no face, or ""), `left_out` (number of
    faces beyond `MAX_FACES`), and `faces`, the largest first. Each face has `box` (x, y, width,
    height in pixels of the upright image) and, depending on the network's heads, `expression`,
    `valence`, `arousal` and `action_units`.

    **Raises:** `RequestError` if the content is not an image or is too large.
    """
    faces = predictor.detect(_decode_image(content))
    outputs = predictor.predict_crops(faces.crops[:MAX_FACES])
    answers = []
    for index, box in enumerate(faces.boxes[:MAX_FACES].tolist()):
        face_outputs = {head: values[index] for head, values in outputs.items()}
        answers.append({"box": box, **_format_outputs(face_outputs, predictor)})
    return {
        "width": faces.size[0],
        "height": faces.size[1],
        "reason": faces.reason,
        "left_out": max(0, len(faces.boxes) - MAX_FACES),
        "faces": answers,
    }


def _format_outputs(outputs: dict[str, np.ndarray], predictor: Predictor) -> dict[str, Any]:
    """The outputs of one face in the format of the JSON answer."""
    answer: dict[str, Any] = {}
    if "expression" in outputs:
        pairs = zip(predictor.classes, outputs["expression"].tolist(), strict=True)
        answer["expression"] = [{"name": name, "value": value} for name, value in pairs]
    if "valence_arousal" in outputs:
        answer |= zip(AXES, outputs["valence_arousal"].tolist(), strict=True)
    if "action_units" in outputs:
        pairs = zip(predictor.units, outputs["action_units"].tolist(), strict=True)
        answer["action_units"] = [{"name": f"AU{unit}", "value": value} for unit, value in pairs]
    return answer


def _decode_image(content: bytes) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about large images; the check is below
            with Image.open(io.BytesIO(content), formats=tuple(CONTENT_TYPES)) as image:
                width, height = image.size  # from the header: nothing is decoded yet
    except Image.DecompressionBombError:  # Pillow refuses images above 179 megapixels
        width = height = MAX_PIXELS
    except Exception:  # decoders may raise any exception on untrusted bytes
        raise RequestError(422, f"not an image; send one of {', '.join(CONTENT_TYPES)}") from None
    if width * height > MAX_PIXELS:
        raise RequestError(422, f"the image has more than {MAX_PIXELS // 10**6} megapixels")
    try:
        return face_images.decode_image(content, upright=True)
    except face_images.UnusableInputError as error:
        raise RequestError(422, str(error)) from None
