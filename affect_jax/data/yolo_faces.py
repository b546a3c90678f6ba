"""Boxes and classes in the text files of the YOLO detectors.

Source: https://docs.ultralytics.com/datasets/detect/. Coordinates are fractions of the image, which
Ultralytics' reader (`cv2.imread`) rotates by its EXIF orientation.
"""

from __future__ import annotations

import collections
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import yaml

from affect_jax.core import labels
from affect_jax.core.errors import UserError, first_line
from affect_jax.data import layouts
from affect_jax.data.annotation_parsing import BOX_FIELDS
from affect_jax.data.face_images import Row


@layouts.register_layout("yolo_faces")
def yolo_faces(folder: pathlib.Path, *, classes: Sequence[str] = ()) -> layouts.Layout:
    """Folders images/ and labels/ of a YOLO detection dataset, with the names in data.yaml.

    Each line of `labels/train/a.txt` (or `train/labels/a.txt`), `class x y width height` with the
    centre of the box, is one face of the image `images/train/a.*`.

    **Arguments:**

    - `classes`: names in the order of their ids; empty: those of AffectNet. `data.yaml` may have
      synonyms of them.
    """
    files = layouts.list_files(folder)
    images = {path.rpartition(".")[0]: path for path in filter(layouts.is_image, files)}
    texts: dict[str, list[str]] = collections.defaultdict(list)
    for path in files:
        *parents, _ = pathlib.PurePosixPath(path).parts
        if path.endswith(".txt") and "labels" in parents:
            splits = [name for name in parents if name.lower() in layouts.SPLIT_NAMES]
            texts[layouts.parse_split((splits or ["training"])[0], folder)].append(path)
    tables = [path for path in files if path in ("data.yaml", "data.yml", "dataset.yaml")]
    names = _read_names(folder / (tables or ["data.yaml"])[0])
    matched = labels.match_classes(
        names.values(), classes or labels.EXPRESSIONS, folder, ordered=bool(classes)
    )
    by_index = {index: matched[name] for index, name in names.items()}
    read_rows = functools.partial(_read_rows, folder=folder, images=images, classes=by_index)
    return layouts.Layout(texts, read_rows, matched, tables)


def _read_names(path: pathlib.Path) -> dict[str, str]:
    """Index of a class -> name, from `names` in a data.yaml, which is a list or a mapping."""
    try:
        names = yaml.safe_load(path.read_text())["names"]
        names = names.items() if isinstance(names, dict) else enumerate(names)
        return {str(index): str(name) for index, name in names}
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise UserError(f"{path}: no names of classes can be read: {first_line(error)}") from error


def _read_rows(
    texts: Sequence[str],
    *,
    folder: pathlib.Path,
    images: Mapping[str, str],
    classes: Mapping[str, str],
) -> Iterator[Row]:
    for text in texts:
        stem = "/".join("images" if part == "labels" else part for part in text[:-4].split("/"))
        image = images.get(stem, f"{stem}.jpg")
        for number, line in enumerate((folder / text).read_text(errors="replace").splitlines(), 1):
            values, reason = {}, ""
            try:
                index, *numbers = line.split()
                x, y, width, height = map(float, numbers)
                box = (x - width / 2, y - height / 2, width, height)
                values = {"expression": classes[index], **dict(zip(BOX_FIELDS, box, strict=True))}
            except (ValueError, KeyError):
                reason = f"not a class, x, y, width and height: {line[:40]!r}"
            if line.strip():
                yield Row(number, image, image, values, is_relative=True, reason=reason)
