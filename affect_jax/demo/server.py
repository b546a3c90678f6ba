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
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from uvicorn.protocols.http.h11_impl import H11Protocol

from affect_jax.core.labels import AXES
from affect_jax.data import face_images
from affect_jax.predict.predictor import Predictor

ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
CONTENT_TYPES = ["image/bmp", "image/gif", "image/jpeg", "image/png", "image/webp"]
MAX_BYTES = 12 * 2**20
MAX_FACES = 20  # per image; only the largest are predicted
MAX_CONCURRENT_REQUESTS = 4  # images in prediction or waiting for it
CONNECTION_TIMEOUT_SECONDS = 60  # each connection serves one request

HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _Protocol(H11Protocol):
    """Closes a connection after a time, even if its client neither sends nor reads anything."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.loop.call_later(CONNECTION_TIMEOUT_SECONDS, transport.abort)


def create_server(predictor: Predictor) -> uvicorn.Server:
    """Creates the web server for a predictor."""
    slots = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)

    async def predict(request: Request) -> Response:
        if slots.locked():
            raise HTTPException(503, "busy with other images; try again")
        async with slots:
            try:
                content = await _read_body(request)
            except ClientDisconnect:
                raise HTTPException(408, "the upload did not finish") from None
            answer = await run_in_threadpool(predict_image, predictor, content)
        return JSONResponse(answer)

    async def respond_with_error(_: Request, error: Any) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code)

    page = StaticFiles(packages=[("affect_jax.demo", "page")], html=True)
    app = Starlette(
        routes=[Route("/predict", predict, methods=["POST"]), Mount("/", page)],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=ALLOWED_HOSTS, www_redirect=False)
        ],
        exception_handlers={HTTPException: respond_with_error},
    )
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        headers=list(HEADERS.items()),
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    return uvicorn.Server(config)


async def _read_body(request: Request) -> bytes:
    """Reads the uploaded image.

    **Raises:** `HTTPException` for another content type, and as soon as the size exceeds the limit.
    """
    if request.headers.get("content-type") not in CONTENT_TYPES:
        raise HTTPException(415, f"send one of {', '.join(CONTENT_TYPES)}")
    too_large = HTTPException(413, f"the file is larger than {MAX_BYTES >> 20} MiB")
    if int(request.headers.get("content-length", 0)) > MAX_BYTES:
        raise too_large
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BYTES:
            raise too_large
    return bytes(content)


def predict_image(predictor: Predictor, content: bytes) -> dict[str, Any]:
    """Predicts the faces of an encoded image.

    **Returns:** `outputs` (head -> `names` of its values), `size` (width, height), `reason` (why
    there is no face, or ""), `left_out` (number of faces beyond `MAX_FACES`) and `faces`, the
    largest first. Each has `box` (x, y, width, height in pixels) and values by head.

    **Raises:** `HTTPException` if the content is not an image or is too large.
    """
    try:
        pixels = face_images.decode_image(content, upright=True)
    except face_images.UnusableInputError as error:
        raise HTTPException(422, str(error)) from None
    detected = predictor.detect(pixels)
    boxes = detected.boxes[:MAX_FACES].tolist()
    outputs = predictor.predict_crops(detected.crops[:MAX_FACES])
    units = [f"AU{unit}" for unit in predictor.units]
    names = {"expression": predictor.classes, "valence_arousal": AXES, "action_units": units}
    return {
        "outputs": {head: {"names": names[head]} for head in outputs},
        "size": detected.size,
        "reason": detected.reason,
        "left_out": len(detected.boxes) - len(boxes),
        "faces": [
            {"box": box, **{head: values[index].tolist() for head, values in outputs.items()}}
            for index, box in enumerate(boxes)
        ],
    }
