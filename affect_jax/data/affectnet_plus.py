"""AffectNet+: AffectNet's manually annotated faces with soft labels.

Fard, Hosseini, Sweeny and Mahoor, "AffectNet+: a database for enhancing facial expression
recognition with soft-labels", 2024 (arXiv:2410.22506). The data require a licence from the authors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from affect_jax.core import labels
from affect_jax.data.face_images import Row
from affect_jax.data.layouts import register_layout
from affect_jax.data.source_files import Source, parse_split


@register_layout("affectnet_plus", extra_features=("expression_distribution",))
def affectnet_plus(source: Source) -> Iterator[tuple[str, Row]]:
    """AffectNet+: human_annotated/{train_set,validation_set}/{images,annotations}/.

    Each `annotations/N.json` has `human-label` (AffectNet's ids), `soft-label` (a number for each
    of the first eight) and `meta-data`. A face may lack any of them: the table of counts shows how
    many have each.
    """
    source.class_names.update({str(i): name for i, name in enumerate(labels.EXPRESSIONS)})
    for number, path in enumerate(source.files):
        folder, _, name = path.rpartition("/annotations/")
        if not (folder and name.endswith(".json")):
            continue
        image = f"{folder}/images/{name[:-5]}.jpg"
        values, reason = {}, ""
        try:
            content = json.loads(source.read(path))
            metadata, soft_label = content.get("meta-data") or {}, content.get("soft-label")
            values = {
                "expression": content.get("human-label"),
                "valence": metadata.get("valence"),
                "arousal": metadata.get("arousal"),
                "facial_landmarks": metadata.get("landmark-68"),
                # none, uncertain and non-face have no probability
                "expression_distribution": [*soft_label, 0, 0, 0] if soft_label else None,
            }
            values = {name: value for name, value in values.items() if value is not None}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            reason = "annotation is not the JSON of a face"
        yield parse_split(folder.split("/")), Row(number, image, image, values, reason=reason)
