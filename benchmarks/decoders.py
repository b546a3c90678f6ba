"""Measures how many 256 x 256 JPEG faces a second each decoder decodes, on one thread.

    python -m benchmarks.decoders

The JPEGs are rendered faces, encoded as preparation does (quality 95, chroma at half resolution).
Every decoder returns a NumPy array or a tensor, uint8 [256, 256, 3]. A decoder that is missing or
fails is skipped, with the reason. The data loader uses simplejpeg with a reused buffer.
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
from affect_jax.facs.render import random_face
from benchmarks import frameworks, harness

OURS = "simplejpeg, memory used again"
Decode = Callable[[bytes], Any]
PACKAGES = ("simplejpeg", "opencv-python-headless", "pillow", "PyTurboJPEG", "torchvision", "numpy")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cv2.setNumThreads(1)
    jpegs = [
        face_images.encode_jpeg(random_face.sample_face(0, index, size=args.size).image)
        for index in range(args.different)
    ]
    runs = harness.run_interleaved(
        {
            name: lambda decode=decode: faces_per_second(decode, jpegs, args)
            for name, decode in create_decoders(jpegs[0], list(DECODERS)).items()
        },
        args.rounds,
    )
    rows = [
        {
            "decoder": name,
            "faces/s": statistics.median(rates),
            "the loader's is faster by": harness.format_ratio(runs[OURS], rates),
        }
        for name, rates in runs.items()
    ]
    harness.write_result(
        "decoders",
        what=f"Faces/s of one thread, JPEG to RGB, {args.size} x {args.size}",
        args=args,
        rows=rows,
        runs=runs,
        packages=PACKAGES,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument("--size", type=int, default=256, help="size of the faces in pixels")
    parser.add_argument("--faces", type=int, default=1000, help="per decoder and round")
    harness.add_clock_argument(parser)
    parser.add_argument("--different", type=int, default=64, help="number of distinct faces")
    return harness.parse_args(parser, argv, {"faces": 8, "different": 4, "size": 64})


def faces_per_second(
    decode: Callable[[bytes], Any], jpegs: list[bytes], args: argparse.Namespace
) -> float:
    def decode_all() -> None:
        for index in range(args.faces):
            decode(jpegs[index % len(jpegs)])

    return args.faces / harness.measure_seconds(decode_all, args.clock)


def create_decoders(jpeg: bytes, names: Sequence[str]) -> dict[str, Decode]:
    """Creates the decoders of `DECODERS` that can decode `jpeg`; prints why others are skipped."""
    decoders = {}
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # deprecations
                decode = DECODERS[name]()
                image = np.asarray(decode(jpeg))
        except Exception as error:  # missing packages and libraries raise various errors
            print(f"skipped: {name}: {first_line(error)}")
            continue
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8, name
        decoders[name] = decode
    return decoders


def _simplejpeg_with_buffer() -> Decode:
    buffers: list[np.ndarray] = []

    def decode(content: bytes) -> np.ndarray:
        if not buffers:
            buffers.append(simplejpeg.decode_jpeg(content, "RGB"))
        return simplejpeg.decode_jpeg(content, "RGB", buffer=buffers[0])

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
    torch, torchvision = frameworks.torch(), frameworks.torchvision()
    torch.set_num_threads(1)

    def decode(content: bytes) -> Any:
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        return torchvision.io.decode_jpeg(data).permute(1, 2, 0)

    return decode


DECODERS: dict[str, Callable[[], Decode]] = {
    OURS: _simplejpeg_with_buffer,
    "simplejpeg": _simplejpeg,
    "PyTurboJPEG": _turbojpeg,
    "OpenCV": _opencv,
    "Pillow": _pillow,
    "torchvision": _torchvision,
}
"""Name -> function that creates the decoder; call it in the process that decodes."""


if __name__ == "__main__":
    main()
