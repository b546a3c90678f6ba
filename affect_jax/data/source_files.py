"""The folder of a dataset on disk: its files, its tables and the splits that they name."""

from __future__ import annotations

import csv
import functools
import hashlib
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from etils import epath

from affect_jax.core import labels
from affect_jax.core.errors import UserError, first_line
from affect_jax.data.face_images import is_image
from affect_jax.data.record_reader import size_and_hash

SPLIT_NAMES = {
    **dict.fromkeys(("training", "train", "train_set"), "training"),
    **dict.fromkeys(("validation", "val", "valid", "val_set", "validation_set"), "validation"),
    **{"publictest": "validation", "test": "test", "privatetest": "test", "test_set": "test"},
}
"""Name of a split, in lower case -> its name in this package; other names are unchanged."""

MAX_HASHED_FILES = 5000  # reading a million annotations would take minutes at each start


class Source:
    """The folder of a dataset. The paths in `files` and `used` are texts relative to it.

    - `tables`: name -> CSV file or folder of annotations, if the layout finds its faces by them and
      not by `files`.
    - `class_names`: name of a class in the folder -> name of the class.
    - `used`: files that were read, and images of rows.

    **Arguments:** `manual_dir`: the folder; `excluded`: one to leave out, that of the records.
    """

    def __init__(self, name: str, manual_dir: str, excluded: str):
        self.name, self.manual_dir = name, manual_dir
        self.folder = pathlib.Path(os.path.abspath(os.path.expanduser(manual_dir)))
        self._excluded = os.path.realpath(excluded)
        self.tables: Mapping[str, pathlib.Path] = {}
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

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each table; without tables, of the names of all files and of annotations."""
        if self.tables:
            return {name: _hash_table(path) for name, path in self.tables.items()}
        annotations = [path for path in self.files if not is_image(path)]
        hashed = annotations if len(annotations) <= MAX_HASHED_FILES else []
        hashes = {path: _hash_table(self.folder / path) for path in hashed}
        return {"names of files": _hash_names(self.files), **hashes}

    def find_unused(self) -> list[tuple[str, str]]:
        """Lists the files that no row uses, each with its kind."""
        kinds = {True: "image without a label", False: "other file"}
        return [(path, kinds[is_image(path)]) for path in self.files if path not in self.used]


def _hash_table(path: pathlib.Path) -> str:
    if path.is_dir():  # reading a million files would take minutes
        return _hash_names(sorted(os.listdir(path)))
    return size_and_hash(epath.Path(path))["sha256"]


def _hash_names(names: Iterable[str]) -> str:
    return hashlib.sha256(os.fsencode("\n".join(names))).hexdigest()


def parse_split(folders: Sequence[str], source: str = "") -> str:
    """The split that the last folder of a path names; `training` without a folder.

    **Arguments:** `source`: for the message of an error; by default the path.

    **Raises:** `UserError` if `tfds` allows no split of this name.
    """
    name = folders[-1] if folders else "training"
    if not re.fullmatch(r"(?!all$)[A-Za-z]\w{0,63}", name):
        raise UserError(f"{source or '/'.join(folders)}: {name!r} is not a valid name of a split")
    return SPLIT_NAMES.get(name.lower(), name)


def read_csv(
    path: pathlib.Path, columns: Iterable[str] = (), *, header: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the rows of a CSV file in UTF-8: line number, and column -> text.

    If a row has fewer fields than the header, the remaining texts are empty.

    **Arguments:**

    - `columns`: the columns that the file must have.
    - `header`: the columns of a file whose header may be missing. The header is missing if the
      first line has this number of fields and the second field is an integer.

    **Raises:** `UserError` if the file is not a valid CSV file or lacks a column.
    """
    line = 0
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first = next(csv.reader(file), [])
            file.seek(0)
            starts_with_data = header and len(first) == len(header) and first[1].isdecimal()
            fields = header if starts_with_data else None
            table = csv.DictReader(file, fields, restval="", strict=True)
            names = table.fieldnames or ()
            if missing := [name for name in columns if name not in names]:
                raise UserError(
                    f"{path}: no column {', '.join(missing)}; it has {', '.join(names)}"
                )
            if repeated := {name for name in columns if list(names).count(name) > 1}:
                raise UserError(f"{path}: more than one column {', '.join(sorted(repeated))}")
            for row in table:
                line = table.line_num
                yield line, row
    except (csv.Error, OSError, UnicodeError) as error:
        raise UserError(f"{path}, after line {line}: {first_line(error)}") from error
