"""Boxes and classes in the text files of the YOLO detectors.

Source: https://docs.ultralytics.com/datasets/detect/. Coordinates are fractions of the image, which
Ultralytics' reader (`cv2.imread`) rotates by its EXIF orientation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from affect_jax.core.errors import UserError, first_line
from affect_jax.data.annotation_parsing import BOX_FIELDS
from affect_jax.data.face_images import Row, is_image
from affect_jax.data.layouts import register_layout
from affect_jax.data.source_files import Source, parse_split


@register_layout("yolo_faces")
def yolo_faces(source: Source, *, classes: Sequence[str] = ()) -> Iterator[tuple[str, Row]]:
    """Folders images/ and labels/ of a YOLO detection dataset, with the names in data.yaml.

    Each line of `labels/train/a.txt` (or `train/labels/a.txt`), `class x y width height` with the
    centre of the box, is one face of the image `images/train/a.*`.

    **Arguments:**

    - `classes`: names in the order of their ids; empty: those of AffectNet. `data.yaml` may have
      synonyms of them.
    """
    images = {os.path.splitext(path)[0]: path for path in source.files if is_image(path)}
    try:
        names = yaml.safe_load(source.read("data.yaml"))["names"]
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        names = {int(index): str(name) for index, name in pairs}
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        path, reason = source.folder / "data.yaml", first_line(error)
        raise UserError(f"{path}: no names of classes can be read: {reason}") from error
    matched = source.match_classes(names.values(), classes)
    for text in source.files:
        *folders, file = text.split("/")
        if "labels" not in folders or not file.endswith(".txt"):
            continue
        split = parse_split([folder for folder in folders if folder != "labels"])
        stem = "/".join("images" if name == "labels" else name for name in text[:-4].split("/"))
        image = images.get(stem, f"{stem}.jpg")
        for number, line in enumerate(source.read(text).splitlines(), 1):
            values: dict[str, Any] = {}
            reason = ""
            try:
                index, *numbers = line.split()
                x, y, width, height = map(float, numbers)
                box = (x - width / 2, y - height / 2, width, height)
                values |= zip(BOX_FIELDS, box, strict=True)
                values["expression"] = matched[names[int(index)]]
            except (ValueError, KeyError):
                reason = f"not a class, x, y, width and height: {line[:40]!r}"
            if line.strip():
                yield split, Row(number, image, image, values, is_relative=True, reason=reason)
