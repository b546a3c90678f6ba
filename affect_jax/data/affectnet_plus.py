"""AffectNet+: AffectNet's manually annotated faces with soft labels.

Fard, Hosseini, Sweeny and Mahoor, "AffectNet+: a database for enhancing facial expression
recognition with soft-labels", 2024 (arXiv:2410.22506). The data require a licence from the authors.
"""

from __future__ import annotations

import collections
import functools
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from affect_jax.core import labels
from affect_jax.data import layouts
from affect_jax.data.face_images import Row

KEYS = {"valence": "valence", "arousal": "arousal", "facial_landmarks": "landmark-68"}
"""Name in `Row.values` -> key of `meta-data`."""


@layouts.register_layout("affectnet_plus", extra_features=("expression_distribution",))
def affectnet_plus(folder: pathlib.Path, *, subsets: Sequence[int] = ()) -> layouts.Layout:
    """AffectNet+: human_annotated/{train_set,validation_set}/{images,annotations}/.

    Each `annotations/N.json` has `human-label` (AffectNet's ids), `soft-label` (a number for each
    of the first eight) and `meta-data`. A face may lack any of them: the table of counts shows how
    many have each.

    **Arguments:**

    - `subsets`: values of `subset`, the difficulty, to keep: 0 (easy), 1, 2; empty: all.
    """
    paths: dict[str, list[str]] = collections.defaultdict(list)
    for path in layouts.list_files(folder):
        parents = pathlib.PurePosixPath(path).parts[:-1]
        if path.endswith(".json") and len(parents) >= 2 and parents[-1] == "annotations":
            paths[layouts.parse_split(parents[-2], folder)].append(path)
    names = {str(number): name for number, name in enumerate(labels.EXPRESSIONS)}
    read_rows = functools.partial(_read_rows, folder=folder, subsets=tuple(subsets))
    return layouts.Layout(paths, read_rows, names)


def _read_rows(
    paths: Sequence[str], *, folder: pathlib.Path, subsets: Sequence[int]
) -> Iterator[Row]:
    for number, path in enumerate(paths):
        image = path.replace("annotations/", "images/").replace(".json", ".jpg")
        try:
            content = json.loads((folder / path).read_bytes())
            if not subsets or content.get("subset") in subsets:
                yield Row(number, image, image, _parse(content))
        except (OSError, ValueError, TypeError, AttributeError):
            yield Row(number, image, image, {}, reason="annotation is not the JSON of a face")


def _parse(content: dict[str, Any]) -> dict[str, Any]:
    metadata = content.get("meta-data") or {}
    values = {name: metadata.get(key) for name, key in KEYS.items()}
    values["expression"] = content.get("human-label")
    if soft_label := content.get("soft-label"):
        values["expression_distribution"] = [*soft_label, 0, 0, 0]  # none, uncertain, non-face
    return {name: value for name, value in values.items() if value is not None}
