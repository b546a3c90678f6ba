"""Layouts: the forms in which people hold datasets of faces.

A layout is a generator of rows, in a file of its own. The decorator `register_layout` makes it a
dataset with the options that all layouts share.
"""

from __future__ import annotations

import collections
import csv
import functools
import hashlib
import inspect
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, get_type_hints

from etils import epath

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.data import DATASETS
from affect_jax.data.face_images import IMAGE_SUFFIXES, Row
from affect_jax.data.image_files_builder import ImageFilesBuilder
from affect_jax.data.record_reader import size_and_hash
from affect_jax.data.tfds_builder import FacesConfig, prepare_records
from affect_jax.data.worker_processes import print_line

SPLIT_NAMES = {
    **dict.fromkeys(("training", "train", "train_set"), "training"),
    **dict.fromkeys(("validation", "val", "valid", "val_set", "validation_set"), "validation"),
    **{"publictest": "validation", "test": "test", "privatetest": "test", "test_set": "test"},
}
"""Name of a split, in lower case -> its name in this package; other names are unchanged."""

MAX_HASHED_FILES = 5000  # reading a million annotations would take minutes at each start

FindRows = Callable[["Source"], Iterable[tuple[str, Row]]]


class Source:
    """The folder of a dataset. All paths are texts relative to it.

    - `class_names`: name of a class in the folder -> name of the class.
    - `used`: files that were read, and images of rows.

    **Arguments:** `excluded`: a folder to leave out, that of the records.
    """

    def __init__(self, name: str, folder: str, excluded: str):
        self.name = name
        self.folder = pathlib.Path(os.path.abspath(os.path.expanduser(folder)))
        self._excluded = os.path.realpath(excluded)
        self.class_names: dict[str, str] = {}
        self.used: set[str] = set()

    @functools.cached_property
    def files(self) -> list[str]:
        """All files, sorted; hidden files and folders are left out."""
        if not self.folder.is_dir():
            advice = "set --config.data.manual_dir"
            raise UserError(f"{self.name}: {self.folder}: no such folder; {advice}")
        paths = []
        for base, folders, names in os.walk(self.folder):
            shown = {n: os.path.join(base, n) for n in folders if not n.startswith(".")}
            for path in filter(os.path.islink, shown.values()):
                raise UserError(f"{path}: is a link to a folder; put the folder itself there")
            folders[:] = [
                n for n, path in shown.items() if os.path.realpath(path) != self._excluded
            ]
            paths += [os.path.join(base, name) for name in names if not name.startswith(".")]
        return sorted(os.path.relpath(path, self.folder).replace(os.sep, "/") for path in paths)

    def read(self, path: str) -> str:
        """Reads a text file of annotations."""
        self.used.add(path)
        return (self.folder / path).read_text(encoding="utf-8-sig", errors="replace")

    def match_classes(self, names: Iterable[str], classes: Sequence[str]) -> dict[str, str]:
        """See `labels.match_classes`."""
        self.class_names.update(labels.match_classes(names, classes, self.folder))
        return self.class_names


class LayoutBuilder(ImageFilesBuilder, skip_registration=True):
    """Faces in a layout, see `register_layout`. `unused.csv` lists the files that no row uses."""

    def __init__(self, source: Source, find_rows: FindRows, **options: Any):
        self.name = source.name  # pyright: ignore[reportAttributeAccessIssue]
        self.__doc__ = options["config"].description
        self._source, self.folder = source, source.folder
        self.find_rows = functools.partial(_find_rows, source, find_rows)
        super().__init__(**options)
        self.class_names = source.class_names

    def source_hashes(self) -> dict[str, str]:
        files = self._source.files
        annotations = [path for path in files if not is_image(path)]
        hashed = annotations if len(annotations) <= MAX_HASHED_FILES else []
        hashes = {path: size_and_hash(epath.Path(self.folder, path))["sha256"] for path in hashed}
        names = hashlib.sha256(os.fsencode("\n".join(files))).hexdigest()
        return {"names of files": names, **hashes}

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        super()._download_and_prepare(dl_manager, download_config)
        paths = [path for path in self._source.files if path not in self._source.used]
        reasons = {True: "image without a label", False: "other file"}
        unused = [(path, reasons[is_image(path)]) for path in paths]
        path = self.data_path / "unused.csv"
        with open(path, "w", newline="", errors="backslashreplace") as file:
            csv.writer(file, lineterminator="\n").writerows([("file", "reason"), *unused])
        for reason, count in collections.Counter(reason for _, reason in unused).items():
            print_line(f"{self.name}: not used: {count:,}: {reason}; see unused.csv")


def _find_rows(source: Source, find_rows: FindRows) -> Iterator[tuple[str, Row]]:
    for split, row in find_rows(source):
        source.used.add(row.image if isinstance(row.image, str) else "")
        yield split, row


def register_layout(name: str, *, extra_features: Sequence[str] = ()) -> Callable:
    """Returns a decorator that registers a layout as a dataset.

    The layout is a function of a `Source` and of keyword arguments, its options. It yields (split,
    row); an `expression` in a row is the name of a class. The dataset also has the options
    `manual_dir` (the folder), `data_dir`, `image_size`, `margin`, `max_skipped`, `num_workers` and
    `beam`, see `data.affectnet`.

    **Arguments:** `extra_features`: see `tfds_builder.face_features`.
    """

    def decorator(find_rows: Callable[..., Any]) -> Callable[..., LayoutBuilder]:
        def create(
            *,
            manual_dir: str = "",
            data_dir: str = "data",
            image_size: int = 256,
            margin: float = 0.0,
            max_skipped: float = 0.01,
            num_workers: int | None = None,
            beam: str = "",
            **options: Any,
        ) -> LayoutBuilder:
            source = Source(name, manual_dir, data_dir)
            text = json.dumps([margin, str(source.folder), options], sort_keys=True)
            config = FacesConfig(
                name=f"{image_size}_{hashlib.sha256(text.encode()).hexdigest()[:8]}",
                description=find_rows.__doc__,
                image_size=image_size,
                classes=labels.dataset_classes(name, options),
                margin=margin,
                extra_features=extra_features,
            )
            limits = {"max_skipped": max_skipped, "num_workers": num_workers, "beam": beam}
            find = functools.partial(find_rows, **options)
            builder = LayoutBuilder(source, find, config=config, data_dir=data_dir, **limits)
            return prepare_records(builder)

        # The registry checks options by the signature, in which `options` are those of the layout.
        shared = list(inspect.signature(create).parameters.values())[:-1]
        own = list(inspect.signature(find_rows).parameters.values())[1:]
        annotations = get_type_hints(create) | get_type_hints(find_rows)
        functools.update_wrapper(create, find_rows)
        create.__annotations__ = annotations | {"return": LayoutBuilder}
        create.__signature__ = inspect.Signature([*shared, *own])  # pyright: ignore
        return DATASETS.register(name)(create)

    return decorator


def is_image(path: str) -> bool:
    """Whether the suffix of a file is that of an image."""
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


def parse_split(folders: Sequence[str], source: str = "") -> str:
    """The split that the last folder of a path names; `training` without a folder.

    **Arguments:** `source`: for the message of an error; by default the path.

    **Raises:** `UserError` if `tfds` allows no split of this name.
    """
    name = folders[-1] if folders else "training"
    if not re.fullmatch(r"(?!all$)[A-Za-z]\w{0,63}", name):
        raise UserError(f"{source or '/'.join(folders)}: {name!r} is not a valid name of a split")
    return SPLIT_NAMES.get(name.lower(), name)
