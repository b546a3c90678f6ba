"""The page's server: one page, one question, nothing kept.

`POST /predict` has an image as its whole body and gives the faces as JSON. There is no other input:
no names, no paths, no forms. What a request may ask for is limited below; an image lives in memory
until it is answered, and is never written.

The page works without a network: no fonts, scripts or figures from elsewhere, and its Content
Security Policy keeps it so. Other sites cannot ask: a question must come with an image's content
type, which a browser sends to another origin only where that allows it, and requests under another
host's name are refused.
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

HOSTS = ("127.0.0.1", "localhost")
TYPES = {"BMP": "image/bmp", "GIF": "image/gif", "JPEG": "image/jpeg", "PNG": "image/png"}
TYPES |= {"WEBP": "image/webp"}
MAX_BYTES = 12 * 2**20
MAX_PIXELS = 24_000_000
MAX_FACES = 20  # of one image; the largest are predicted
MAX_AT_ONCE = 4  # images being predicted or waiting for it
SECONDS_TO_ARRIVE = 30

PAGE = {
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


class Refused(Exception):
    """**Arguments:** `status`: of HTTP; `reason`: for the person at the page."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


def create_app(predictor: Predictor) -> Starlette:
    """The application of one network."""
    waiting = 0

    async def predict(request: Request) -> Response:
        nonlocal waiting
        if waiting >= MAX_AT_ONCE:
            return _refusal(Refused(503, "busy with other images; try again"))
        waiting += 1
        try:
            content = await asyncio.wait_for(_body(request), SECONDS_TO_ARRIVE)
            answer = await run_in_threadpool(look, predictor, content)
            return JSONResponse(answer, headers=HEADERS)
        except Refused as refused:
            return _refusal(refused)
        except (TimeoutError, ClientDisconnect):
            return _refusal(Refused(408, "the image did not arrive"))
        finally:
            waiting -= 1

    routes = [Route("/predict", predict, methods=["POST"])]
    routes += [Route(path, _file(*what), methods=["GET"]) for path, what in PAGE.items()]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False)
    return Starlette(routes=routes, middleware=[hosts])


def _refusal(refused: Refused) -> Response:
    return JSONResponse({"error": refused.reason}, refused.status, headers=HEADERS)


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    """A file of the page, read once: no request names a file."""
    content = importlib.resources.files("affect_jax.demo").joinpath("page", name).read_bytes()

    async def give(_: Request) -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return give


async def _body(request: Request) -> bytes:
    """The image as it was sent.

    **Raises:** `Refused` for another type, and as soon as it is known to be too large.
    """
    kind = request.headers["content-type"] if "content-type" in request.headers else ""
    if kind not in TYPES.values():
        raise Refused(415, f"send one of {', '.join(TYPES)}")
    too_large = Refused(413, f"the file has more than {MAX_BYTES >> 20} MiB")
    told = request.headers["content-length"] if "content-length" in request.headers else "0"
    if not told.isdigit() or int(told) > MAX_BYTES:
        raise too_large
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BYTES:
            raise too_large
    return bytes(content)


def look(predictor: Predictor, content: bytes) -> dict[str, Any]:
    """What the network says of an image.

    **Returns:** `width`, `height`, `reason` (why there is no face, or ""), `left_out` (faces beyond
    `MAX_FACES`), and `faces`: the largest first, each with `box` (x, y, width, height in pixels of
    the upright image) and, by the network's heads, `expression`, `valence`, `arousal` and
    `action_units`.

    **Raises:** `Refused` for what is no image, or too large.
    """
    found = predictor.find(_decode(content))
    kept = slice(MAX_FACES)
    outputs = predictor.outputs(found.crops[kept])
    described = []
    for place, box in enumerate(found.boxes[kept].tolist()):
        one = {head: values[place] for head, values in outputs.items()}
        described.append({"box": box, **_described(one, predictor)})
    return {
        "width": found.size[0],
        "height": found.size[1],
        "reason": found.reason,
        "left_out": max(0, len(found.boxes) - MAX_FACES),
        "faces": described,
    }


def _described(outputs: dict[str, np.ndarray], predictor: Predictor) -> dict[str, Any]:
    described: dict[str, Any] = {}
    if "expression" in outputs:
        pairs = zip(predictor.classes, outputs["expression"].tolist(), strict=True)
        described["expression"] = [{"name": name, "value": value} for name, value in pairs]
    if "valence_arousal" in outputs:
        described |= zip(AXES, outputs["valence_arousal"].tolist(), strict=True)
    if "action_units" in outputs:
        pairs = zip(predictor.units, outputs["action_units"].tolist(), strict=True)
        described["action_units"] = [{"name": f"AU{unit}", "value": value} for unit, value in pairs]
    return described


def _decode(content: bytes) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow about large images: they are refused here
            with Image.open(io.BytesIO(content), formats=tuple(TYPES)) as image:
                width, height = image.size  # of the header: nothing is decoded yet
    except Image.DecompressionBombError:  # Pillow opens none of more than 179 megapixels
        width = height = MAX_PIXELS
    except Exception:  # fed with a stranger's bytes, a decoder raises anything
        raise Refused(422, f"not an image: {', '.join(TYPES)} can be read") from None
    if width * height > MAX_PIXELS:
        raise Refused(422, f"the image has more than {MAX_PIXELS // 10**6} megapixels")
    try:
        return face_images.decode_image(content, upright=True)
    except face_images.Unusable as unusable:
        raise Refused(422, str(unusable)) from None
