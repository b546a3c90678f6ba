"""Aff-Wild2: frames of videos with expression, valence, arousal and 12 action units.

Kollias and Zafeiriou, "Expression, affect, action unit recognition: Aff-Wild2, multi-task learning
and ArcFace", BMVC 2019; https://ibug.doc.ic.ac.uk/resources/aff-wild2/ and the ABAW competitions
describe the files. The data require a licence from the authors.
"""

from __future__ import annotations

import collections
import functools
import pathlib
import re
from collections.abc import Iterator, Mapping

from affect_jax.core.errors import UserError
from affect_jax.core.registry import describe_unknown_name
from affect_jax.data import layouts
from affect_jax.data.face_images import Row

TRACKS = {"neutral": "expression", "valence": "valence_arousal", "au1": "action_units"}
"""First name in the header of an annotation file -> its track."""

MISSING = {"expression": r"-1|", "valence_arousal": r"-5(\.0*)?|", "action_units": r"-1(\.0*)?|"}
"""Track -> pattern of a value that means "not annotated"."""

NAMES = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")
"""The expressions in the order of the annotations, from 0."""


@layouts.register_layout("aff_wild2", extra_features=("group",))
def aff_wild2(folder: pathlib.Path, *, track: str = "expression") -> layouts.Layout:
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
    splits: dict[str, dict[str, dict[str, str]]] = {}  # split -> video -> track -> path
    for path in layouts.list_files(folder):
        parent, name = pathlib.PurePosixPath(path).parent.name, pathlib.PurePosixPath(path).stem
        if layouts.is_image(path) and name.isdecimal():
            frames[parent][int(name)] = path
        elif path.endswith(".txt") and parent.lower() in layouts.SPLIT_NAMES:
            with open(folder / path, errors="replace") as file:
                track_of_file = TRACKS.get(file.readline().split(",")[0].strip().lower(), "")
            videos = splits.setdefault(layouts.parse_split(parent, folder), {})
            videos.setdefault(name, {})[track_of_file] = path
    for split, videos in splits.items():
        splits[split] = {video: paths for video, paths in videos.items() if track in paths}
    splits = {split: videos for split, videos in splits.items() if videos}
    tables = [
        path for videos in splits.values() for paths in videos.values() for path in paths.values()
    ]
    names = {str(number): name.lower() for number, name in enumerate(NAMES)}
    read_rows = functools.partial(_read_rows, folder=folder, frames=frames, names=names)
    return layouts.Layout(splits, read_rows, names, tables)


def _read_rows(
    videos: Mapping[str, Mapping[str, str]],
    *,
    folder: pathlib.Path,
    frames: Mapping[str, Mapping[int, str]],
    names: Mapping[str, str],
) -> Iterator[Row]:
    for video, paths in sorted(videos.items()):
        if not frames.get(video):
            yield Row(0, video, video, {}, reason="no frames of the video")
            continue
        group = video.removesuffix("_left").removesuffix("_right")
        lines = {
            track: (folder / path).read_text(errors="replace").splitlines()
            for track, path in paths.items()
            if track
        }
        for number, image in sorted(frames[video].items()):
            values: dict[str, str] = {}
            for track, texts in lines.items():
                header, line = texts[0], (texts[number] if number < len(texts) else "")
                fields = ["expression"] if track == "expression" else header.split(",")
                pairs = zip(fields, line.split(","), strict=False)
                pairs = [(field.strip(), text.strip()) for field, text in pairs]
                values |= {f: t for f, t in pairs if not re.fullmatch(MISSING[track], t)}
            if "expression" in values:
                values["expression"] = names.get(values["expression"], values["expression"])
            if values:
                yield Row(number, image, image, {**values, "group": group})
