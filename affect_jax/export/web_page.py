"""Web page: one HTML file that predicts in the browser, without a server.

It is the page of `affect_jax.demo` with `browser.js` in place of `server.js`. It contains all other
files, because a browser reads none from a local folder. Its Content Security Policy allows no
connection, so images cannot leave the page.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.resources
import pathlib
import re
from collections.abc import Mapping

from affect_jax.core.errors import UserError
from affect_jax.core.paths import write_atomically

RUNTIME = {"code": "ort.wasm.bundle.min.mjs", "wasm": "ort-wasm-simd-threaded.wasm"}
"""The smallest build of onnxruntime-web. It computes on the CPU."""


def read_runtime(folder: pathlib.Path) -> dict[str, bytes]:
    """Reads `RUNTIME` from the folder `dist` of the npm package; raises `UserError`."""
    try:
        return {name: (folder / file).read_bytes() for name, file in RUNTIME.items()}
    except OSError as error:
        raise UserError(
            f"{error.filename}: {error.strerror}; --format=web needs onnxruntime-web: run npm "
            "install onnxruntime-web, or set --onnxruntime_web to its folder dist"
        ) from error


def write_page(out: pathlib.Path, runtime: Mapping[str, bytes]) -> None:
    """Adds `index.html` to a folder with `model.onnx` and `card.json`."""
    page = importlib.resources.files("affect_jax.demo") / "page"
    names = ("index.html", "demo.css", "demo.js", "browser.js")
    html, style, *scripts = ((page / name).read_text("utf-8") for name in names)
    script = "".join(scripts)
    hashes = (hashlib.sha256(text.encode()).digest() for text in (script, style))
    script_hash, style_hash = (f"'sha256-{base64.b64encode(hash).decode()}'" for hash in hashes)
    head = (
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src blob: '
        f"data:; connect-src data:; script-src {script_hash} blob: 'wasm-unsafe-eval'; style-src "
        f"{style_hash}; base-uri 'none'; form-action 'none'\">\n<style>{style}</style>\n"
    )
    files = {"model": (out / "model.onnx").read_bytes(), "card": (out / "card.json").read_bytes()}
    for name, content in {**runtime, **files}.items():
        text = base64.b64encode(gzip.compress(content, mtime=0)).decode()
        head += f'<script type="application/gzip" id="{name}">{text}</script>\n'
    head += f'<script type="module">{script}</script>\n'  # runs after the page is parsed
    html = re.sub('<link rel="stylesheet".*(?=</head>)', lambda _: head, html, flags=re.DOTALL)
    with write_atomically(out / "index.html") as partial:
        partial.write_text(html, encoding="utf-8", newline="\n")
