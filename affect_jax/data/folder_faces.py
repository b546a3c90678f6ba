"""Images sorted into one folder per class.

FER2013 as images, class-sorted copies of AffectNet and RAF-DB and YOLO's classification format have
this layout, as `torchvision.datasets.ImageFolder` describes it.
"""

from __future__ import annotations

import collections
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from affect_jax.core import labels
from affect_jax.data import layouts
from affect_jax.data.face_images import Row


@layouts.register_layout("folder_faces")
def folder_faces(folder: pathlib.Path, *, classes: Sequence[str] = ()) -> layouts.Layout:
    """Images in folders SPLIT/CLASS, or in folders CLASS: then all are the training split.

    **Arguments:**

    - `classes`: names in the order of their ids; empty: those of AffectNet. A folder may have a
      synonym of the name (`happy`, `3_Surprised`). It may have the number of the class, from 0 or
      1, if `classes` has the names of all folders in order.
    """
    paths: dict[str, list[str]] = collections.defaultdict(list)
    for path in filter(layouts.is_image, layouts.list_files(folder)):
        *parents, class_folder, _ = ("", "training", *pathlib.PurePosixPath(path).parts)
        if class_folder.lower() not in layouts.SPLIT_NAMES:
            paths[layouts.parse_split(parents[-1], folder)].append(path)
    names = labels.match_classes(
        {path.split("/")[-2] for split in paths.values() for path in split},
        classes or labels.EXPRESSIONS,
        folder,
        ordered=bool(classes),
    )
    return layouts.Layout(paths, functools.partial(_read_rows, names=names), names)


def _read_rows(paths: Sequence[str], *, names: Mapping[str, str]) -> Iterator[Row]:
    for number, path in enumerate(paths):
        yield Row(number, path, path, {"expression": names[path.split("/")[-2]]})
