"""RAF-DB: faces from the web with seven basic or eleven compound expressions.

Li, Deng and Du, "Reliable crowdsourcing and deep locality-preserving learning for expression
recognition in the wild", CVPR 2017; http://www.whdeng.cn/raf/model1.html. The data require a
licence from the authors. The layout and the order of the labels are those of the release's readme.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.data.annotation_parsing import BOX_FIELDS
from affect_jax.data.face_images import Row
from affect_jax.data.layouts import register_layout
from affect_jax.data.source_files import Source

LABELS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""The basic expressions in the order of RAF-DB's labels, from 1."""

TABLE = "EmoLabel/list_patition_label.txt"  # the name is that of the release


@register_layout("raf_db")
def raf_db(source: Source, *, images: str = "aligned") -> Iterator[tuple[str, Row]]:
    """RAF-DB, basic expressions: EmoLabel/, Image/ and Annotation/; splits training and test.

    **Arguments:**

    - `images`: `aligned` (100 x 100 pixels), or `original`: cropped to `Annotation/boundingbox`.
    """
    return _find_rows(source, "basic", LABELS, images)


@register_layout("raf_db_compound")
def raf_db_compound(source: Source, *, images: str = "aligned") -> Iterator[tuple[str, Row]]:
    """RAF-DB, eleven compound expressions; files and options as in raf_db."""
    return _find_rows(source, "compound", labels.DATASET_CLASSES["raf_db_compound"], images)


def _find_rows(
    source: Source, part: str, classes: Sequence[str], images: str
) -> Iterator[tuple[str, Row]]:
    if images not in ("aligned", "original"):
        raise UserError(f"raf_db: images = {images!r}: must be 'aligned' or 'original'")
    tables = [path for path in (f"{part}/{TABLE}", TABLE) if path in source.files]
    if not tables:
        raise UserError(f"raf_db: {source.folder}: neither {TABLE} nor {part}/{TABLE} is there")
    base = tables[0].removesuffix(TABLE)
    names = {str(number): name for number, name in enumerate(classes, 1)}
    source.class_names.update(names)
    for number, line in enumerate(source.read(tables[0]).splitlines(), 1):
        name, _, label = line.strip().partition(" ")
        stem = name.removesuffix(".jpg")
        values: dict[str, Any] = {"expression": names.get(label)}
        reason = "" if label in names else f"expression: {label!r} is outside 1..{len(names)}"
        if images == "original":
            try:
                box = source.read(f"{base}Annotation/boundingbox/{stem}_boundingbox.txt").split()
                left, top, right, bottom = map(float, box)
                values |= zip(BOX_FIELDS, (left, top, right - left, bottom - top), strict=True)
            except (OSError, ValueError):
                reason = reason or f"no four numbers in {stem}_boundingbox.txt"
        ending = "_aligned" if images == "aligned" else ""
        image = f"{base}Image/{images}/{stem}{ending}.jpg"
        split = "test" if name.startswith("test") else "training"
        yield split, Row(number, name, image, values, reason=reason)
