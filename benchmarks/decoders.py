"""How many 256 x 256 faces a second each decoder turns from JPEG into RGB, on one thread.

    python -m benchmarks.decoders

The JPEGs are those that preparation writes (quality 95, colours at half resolution), of rendered
faces. Every decoder hands over a NumPy array, or a tensor, uint8 [256, 256, 3]; a decoder that is
not installed, or does not work here, is left out with its reason. simplejpeg is what the loader
uses, into memory that is used again, as it does.
"""

from __future__ import annotations

import argparse
import io
import statistics
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from affect_jax.core.errors import first_line
from affect_jax.data import face_images
from affect_jax.facs.render import sample
from benchmarks import peers, recording

OURS = "simplejpeg, memory used again"
Decode = Callable[[bytes], Any]
PACKAGES = ("simplejpeg", "opencv-python-headless", "pillow", "PyTurboJPEG", "torchvision", "numpy")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    cv2.setNumThreads(1)
    jpegs = [
        face_images.encode(sample.sample(0, number, size=options.size).image)
        for number in range(options.different)
    ]
    runs = recording.take_turns(
        {
            name: lambda decode=decode: rate(decode, jpegs, options)
            for name, decode in working(jpegs[0], list(KNOWN)).items()
        },
        options.rounds,
    )
    rows = [
        {
            "decoder": name,
            "faces/s": statistics.median(rates),
            "the loader's is faster by": recording.times(runs[OURS], rates),
        }
        for name, rates in runs.items()
    ]
    recording.keep(
        "decoders",
        what=f"Faces/s of one thread, JPEG to RGB, {options.size} x {options.size}",
        options=options,
        rows=rows,
        runs=runs,
        packages=PACKAGES,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--size", type=int, default=256, help="side of the faces, pixels")
    found.add_argument("--faces", type=int, default=1000, help="of each decoder, each round")
    recording.add_clock(found)
    found.add_argument("--different", type=int, default=64, help="faces that are decoded in turn")
    return recording.parse(found, arguments, {"faces": 8, "different": 4, "size": 64})


def rate(decode: Callable[[bytes], Any], jpegs: list[bytes], options: argparse.Namespace) -> float:
    def work() -> None:
        for number in range(options.faces):
            decode(jpegs[number % len(jpegs)])

    return options.faces / recording.seconds_of(work, options.clock)


def working(jpeg: bytes, names: Sequence[str]) -> dict[str, Decode]:
    """Those decoders of `KNOWN` that work here, by name; of the others it is said why not."""
    found = {}
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what will be deprecated
                decode = KNOWN[name]()
                image = np.asarray(decode(jpeg))
        except Exception as error:  # each library has its own ways not to be there
            print(f"left out: {name}: {first_line(error)}")
            continue
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8, name
        found[name] = decode
    return found


def _memory_again() -> Decode:
    kept: list[np.ndarray] = []

    def decode(content: bytes) -> np.ndarray:
        if not kept:
            kept.append(simplejpeg.decode_jpeg(content, "RGB"))
        return simplejpeg.decode_jpeg(content, "RGB", buffer=kept[0])

    return decode


def _simplejpeg() -> Decode:
    return lambda content: simplejpeg.decode_jpeg(content, "RGB")


def _opencv() -> Decode:
    def decode(content: bytes) -> Any:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)

    return decode


def _pillow() -> Decode:
    def decode(content: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB"))

    return decode


def _turbojpeg() -> Decode:
    import turbojpeg

    decoder = turbojpeg.TurboJPEG()
    return lambda content: decoder.decode(content, pixel_format=turbojpeg.TJPF_RGB)


def _torchvision() -> Decode:
    torch, torchvision = peers.torch(), peers.torchvision()
    torch.set_num_threads(1)

    def decode(content: bytes) -> Any:
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        return torchvision.io.decode_jpeg(data).permute(1, 2, 0)

    return decode


KNOWN: dict[str, Callable[[], Decode]] = {
    OURS: _memory_again,
    "simplejpeg": _simplejpeg,
    "PyTurboJPEG": _turbojpeg,
    "OpenCV": _opencv,
    "Pillow": _pillow,
    "torchvision": _torchvision,
}
"""Name -> what makes a decoder, in the process that is to use it."""


if __name__ == "__main__":
    main()
