"""Aff-Wild2: frames of videos with expression, valence, arousal and 12 action units.

Kollias and Zafeiriou, "Expression, affect, action unit recognition: Aff-Wild2, multi-task learning
and ArcFace", BMVC 2019; https://ibug.doc.ic.ac.uk/resources/aff-wild2/ and the ABAW competitions
describe the files. The data require a licence from the authors.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator

from affect_jax.core.errors import UserError
from affect_jax.core.registry import describe_unknown_name
from affect_jax.data.face_images import Row, is_image
from affect_jax.data.layouts import register_layout
from affect_jax.data.source_files import SPLIT_NAMES, Source, parse_split

TRACKS = {"neutral": "expression", "valence": "valence_arousal", "au1": "action_units"}
"""First name in the header of an annotation file -> its track."""

MISSING = {"expression": r"-1|", "valence_arousal": r"-5(\.0*)?|", "action_units": r"-1(\.0*)?|"}
"""Track -> pattern of a value that means "not annotated"."""

NAMES = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
"""The expressions in the order of the annotations, from 0."""


@register_layout("aff_wild2", extra_features=("group",))
def aff_wild2(source: Source, *, track: str = "expression") -> Iterator[tuple[str, Row]]:
    """Aff-Wild2: a folder of frames per video, and text files of the ABAW challenges.

    Annotations are `.../Train_Set/VIDEO.txt` and `.../Validation_Set/VIDEO.txt`: a header and one
    line per frame. Frames are `.../VIDEO/00001.jpg` and so on. A record is a frame with a
    label; its group is the video, without `_left` or `_right`.

    **Arguments:**

    - `track`: `expression`, `valence_arousal` or `action_units`: the challenge whose videos and
      splits are used. Labels of the other tracks are added if they are in the same split.
    """
    if track not in TRACKS.values():
        raise UserError(f"aff_wild2: track {describe_unknown_name(track, TRACKS.values())}")
    frames: dict[str, dict[int, str]] = collections.defaultdict(dict)  # of each video
    folders: dict[str, str] = {}  # of each video
    annotations: dict[tuple[str, str], dict[str, str]] = collections.defaultdict(dict)
    for path in source.files:
        parent, file = ("", *path.split("/"))[-2:]
        name, _, suffix = file.rpartition(".")
        if is_image(path) and name.isdecimal():
            folder = path.rpartition("/")[0]
            first = folders.setdefault(parent, folder)
            if folder != first:
                raise UserError(
                    f"aff_wild2: frames of {parent} are in {first} and {folder}; keep one"
                )
            frames[parent][int(name)] = path
        elif suffix == "txt" and parent.lower() in SPLIT_NAMES:
            with open(source.folder / path, encoding="utf-8-sig", errors="replace") as text:
                kind = TRACKS.get(text.readline().split(",")[0].strip().lower())
            if kind:
                annotations[parse_split([parent]), name][kind] = path
    names = {str(number): name.lower() for number, name in enumerate(NAMES)}
    source.class_names.update(names)
    for (split, video), paths in annotations.items():
        if track not in paths:
            continue
        lines = {kind: source.read(path).splitlines() for kind, path in paths.items()}
        if video not in frames:
            yield split, Row(0, video, video, {}, reason="no frames of the video")
        group = video.removesuffix("_left").removesuffix("_right")
        for number, image in sorted(frames[video].items()):
            values: dict[str, str] = {}
            for kind, texts in lines.items():
                header = "expression" if kind == "expression" else texts[0]
                line = texts[number] if number < len(texts) else ""
                for name, value in zip(header.split(","), line.split(","), strict=False):
                    if not re.fullmatch(MISSING[kind], value.strip()):
                        values[name.strip()] = value.strip()
            if "expression" in values:
                text = values["expression"]
                # Other numbers would be read as positions in the order of this package.
                values["expression"] = names.get(text, f"annotation {text}")
            if values:
                yield split, Row(number, image, image, {**values, "group": group})
