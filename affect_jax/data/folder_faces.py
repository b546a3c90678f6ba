"""Images sorted into one folder per class.

FER2013 as images, class-sorted copies of AffectNet and RAF-DB and YOLO's classification format have
this layout, as `torchvision.datasets.ImageFolder` describes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from affect_jax.data.face_images import Row, is_image
from affect_jax.data.layouts import register_layout
from affect_jax.data.source_files import SPLIT_NAMES, Source, parse_split


@register_layout("folder_faces")
def folder_faces(source: Source, *, classes: Sequence[str] = ()) -> Iterator[tuple[str, Row]]:
    """Images in folders SPLIT/CLASS, or in folders CLASS: then all are the training split.

    **Arguments:**

    - `classes`: names in the order of their ids; empty: those of AffectNet. A folder may have a
      synonym of the name (`happy`, `3_Surprised`). It may have the number of the class, from 0 or
      1, if `classes` has the names of all folders in order.
    """
    paths = [path.split("/") for path in source.files if is_image(path)]
    paths = [path for path in paths if len(path) > 1 and path[-2].lower() not in SPLIT_NAMES]
    names = source.match_classes({path[-2] for path in paths}, classes)
    for number, path in enumerate(paths):
        values = {"expression": names[path[-2]]}
        yield parse_split(path[:-2]), Row(number, "/".join(path), "/".join(path), values)
