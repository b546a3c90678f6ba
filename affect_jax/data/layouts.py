"""Layouts: the forms in which people hold datasets of faces.

A layout is a function from a folder and options to a `Layout`, in a file of its own. The decorator
`register_layout` makes it a dataset with the options that all layouts share.
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, get_type_hints

from etils import epath

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.data import DATASETS, face_images
from affect_jax.data.image_files_builder import ImageFilesBuilder, SplitSource
from affect_jax.data.record_reader import size_and_hash
from affect_jax.data.tfds_builder import FacesConfig, prepare_records
from affect_jax.data.worker_processes import print_line

SPLIT_NAMES = {
    **dict.fromkeys(("training", "train", "train_set"), "training"),
    **dict.fromkeys(
        ("validation", "val", "valid", "val_set", "validation_set", "publictest"), "validation"
    ),
    **dict.fromkeys(("test", "test_set", "privatetest"), "test"),
}
"""Common name of a split, in lower case -> its name in this package; others are unchanged."""


class Layout(NamedTuple):
    """The faces that a layout found in a folder. All paths are relative to the folder.

    - `splits`: split -> its part of the dataset, in most layouts a list of files.
    - `read_rows`: picklable function from such a part to an iterable over its rows, in which an
      `expression` is the name of a class.
    - `names`: name of a class in the source -> name of the class.
    - `tables`: files whose content identifies the source, as do the names of all files.
    - `annotations`: prefix of the paths of further files that are used.
    """

    splits: Mapping[str, Any]
    read_rows: Callable[[Any], Iterable[face_images.Row]]
    names: Mapping[str, str]
    tables: Sequence[str] = ()
    annotations: tuple[str, ...] = ()


class LayoutBuilder(ImageFilesBuilder, skip_registration=True):
    """Faces in a layout, see `register_layout`. `unused.csv` lists the files that no row uses.

    **Arguments:**

    - `folder`: the folder of the dataset.
    - `find`: function from the folder to a `Layout`.
    """

    def __init__(
        self, *, name: str, folder: pathlib.Path, find: Callable[..., Layout], **options: Any
    ):
        self.name, self._folder, self._find = name, folder, find
        self.__doc__ = options["config"].description
        super().__init__(**options)

    @functools.cached_property
    def _layout(self) -> Layout:
        if not self._folder.is_dir():
            raise UserError(
                f"{self.name}: {self._folder}: no such folder; set --config.data.manual_dir"
            )
        layout = self._find(self._folder)
        if not layout.splits:
            raise UserError(f"{self.name}: {self._folder} has no faces in this layout")
        self.class_names = layout.names
        return layout

    def source_hashes(self) -> dict[str, str]:
        tables = {name: epath.Path(self._folder / name) for name in self._layout.tables}
        names = "\n".join(list_files(self._folder)).encode(errors="surrogateescape")
        return {
            "names of files": hashlib.sha256(names).hexdigest(),
            **{name: size_and_hash(path)["sha256"] for name, path in tables.items()},
        }

    def sources(self) -> dict[str, SplitSource]:
        splits, read_rows = self._layout.splits, self._layout.read_rows
        return {
            split: SplitSource(functools.partial(read_rows, splits[split]), self._folder)
            for split in sorted(splits)
        }

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        super()._download_and_prepare(dl_manager, download_config)
        used = self.images.union(self._layout.tables, *self._layout.splits.values())
        unused = [
            (path, "image without a label" if is_image(path) else "other file")
            for path in list_files(self._folder)
            if path not in used and not path.startswith(self._layout.annotations)
        ]
        with open(
            self.data_path / "unused.csv", "w", newline="", errors="backslashreplace"
        ) as file:
            csv.writer(file, lineterminator="\n").writerows([("file", "reason"), *unused])
        for reason, count in collections.Counter(reason for _, reason in unused).items():
            print_line(f"{self.name}: not used: {count:,}: {reason}; see unused.csv")


def register_layout(name: str, *, extra_features: Sequence[str] = ()) -> Callable:
    """Returns a decorator that registers a layout as a dataset.

    The layout is a function of the folder, a `pathlib.Path`, and of keyword arguments, its options.
    The dataset also has the options `manual_dir` (the folder), `data_dir`, `image_size`, `margin`,
    `max_skipped`, `num_workers` and `beam`, see `data.affectnet`.

    **Arguments:**

    - `extra_features`: features of its records besides the common ones, see
      `tfds_builder.face_features`.
    """

    def decorator(find: Callable[..., Layout]) -> Callable[..., LayoutBuilder]:
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
            folder = pathlib.Path(manual_dir).expanduser()
            text = json.dumps([margin, str(folder), options], sort_keys=True)
            config = FacesConfig(
                name=f"{image_size}_{hashlib.sha256(text.encode()).hexdigest()[:8]}",
                description=find.__doc__,
                image_size=image_size,
                classes=labels.dataset_classes(name, options),
                margin=margin,
                extra_features=extra_features,
            )
            return prepare_records(
                LayoutBuilder(
                    name=name,
                    folder=folder,
                    find=functools.partial(find, **options),
                    config=config,
                    data_dir=data_dir,
                    max_skipped=max_skipped,
                    num_workers=num_workers,
                    beam=beam,
                )
            )

        # The registry checks options by the signature, in which `options` are those of the layout.
        shared = list(inspect.signature(create).parameters.values())[:-1]
        own = list(inspect.signature(find).parameters.values())[1:]
        annotations = get_type_hints(create) | get_type_hints(find) | {"return": LayoutBuilder}
        functools.update_wrapper(create, find)
        create.__annotations__ = annotations
        create.__signature__ = inspect.Signature([*shared, *own])  # pyright: ignore
        return DATASETS.register(name)(create)

    return decorator


def list_files(folder: pathlib.Path) -> list[str]:
    """Paths of all files below a folder, relative to it, sorted; hidden files are left out."""
    return sorted(
        os.path.relpath(os.path.join(base, name), folder).replace(os.sep, "/")
        for base, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".")
    )


def is_image(path: str) -> bool:
    """Whether the suffix of a file is that of an image."""
    return pathlib.PurePath(path).suffix.lower() in face_images.IMAGE_SUFFIXES


def parse_split(name: str, source: object) -> str:
    """The name of a split in this package.

    **Raises:** `UserError` if `tfds` allows no split of this name.
    """
    if not re.fullmatch(r"(?!all$)[A-Za-z]\w{0,63}", name):
        raise UserError(f"{source}: {name!r} is not a valid name of a split")
    return SPLIT_NAMES.get(name.lower(), name)
