"""RAF-DB: faces from the web with seven basic or eleven compound expressions.

Li, Deng and Du, "Reliable crowdsourcing and deep locality-preserving learning for expression
recognition in the wild", CVPR 2017; http://www.whdeng.cn/raf/model1.html. The data require a
licence from the authors. The layout and the order of the labels are those of the release's readme.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.data import layouts
from affect_jax.data.annotation_parsing import BOX_FIELDS
from affect_jax.data.face_images import Row

LABELS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""The basic expressions in the order of RAF-DB's labels, from 1."""

TABLE = "EmoLabel/list_patition_label.txt"  # the name is that of the release


@layouts.register_layout("raf_db")
def raf_db(folder: pathlib.Path, *, images: str = "aligned") -> layouts.Layout:
    """RAF-DB, basic expressions: EmoLabel/, Image/ and Annotation/; splits training and test.

    **Arguments:**

    - `images`: `aligned` (100 x 100 pixels), or `original`: cropped to `Annotation/boundingbox`.
    """
    return _find_layout(folder, "basic", LABELS, images)


@layouts.register_layout("raf_db_compound")
def raf_db_compound(folder: pathlib.Path, *, images: str = "aligned") -> layouts.Layout:
    """RAF-DB, eleven compound expressions; files and options as in raf_db."""
    return _find_layout(folder, "compound", labels.DATASET_CLASSES["raf_db_compound"], images)


def _find_layout(
    folder: pathlib.Path, part: str, classes: Sequence[str], images: str
) -> layouts.Layout:
    if images not in ("aligned", "original"):
        raise UserError(f"raf_db: images = {images!r}: must be 'aligned' or 'original'")
    tables = [path for path in (f"{part}/{TABLE}", TABLE) if (folder / path).is_file()]
    if not tables:
        raise UserError(f"raf_db: {folder}: neither {TABLE} nor {part}/{TABLE} is there")
    base = tables[0].removesuffix(TABLE)
    names = {str(number): name for number, name in enumerate(classes, 1)}
    read_rows = functools.partial(
        _read_rows, folder=folder / base, base=base, names=names, images=images
    )
    boxes = (f"{base}Annotation/boundingbox/",) if images == "original" else ()
    splits = {"training": ("train_",), "test": ("test_",)}  # prefix of the names
    return layouts.Layout(splits, read_rows, names, tables[:1], boxes)


def _read_rows(
    prefix: tuple[str], *, folder: pathlib.Path, base: str, names: Mapping[str, str], images: str
) -> Iterator[Row]:
    for number, line in enumerate((folder / TABLE).read_text(errors="replace").splitlines(), 1):
        name, _, label = line.strip().partition(" ")
        if not name.startswith(prefix):
            continue
        stem, values = name.removesuffix(".jpg"), {"expression": names.get(label, label)}
        reason = "" if label in names else f"expression: {label!r} is outside 1..{len(names)}"
        if images == "original":
            path = folder / "Annotation/boundingbox" / f"{stem}_boundingbox.txt"
            try:
                left, top, right, bottom = map(float, path.read_text().split())
                box = (left, top, right - left, bottom - top)
                values |= zip(BOX_FIELDS, map(str, box), strict=True)
            except (OSError, ValueError):
                reason = reason or f"no four numbers in {path.name}"
        ending = "_aligned" if images == "aligned" else ""
        yield Row(number, name, f"{base}Image/{images}/{stem}{ending}.jpg", values, reason=reason)
