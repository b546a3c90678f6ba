"""Prepared records: random access, the labels of a whole split, and integrity checks."""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from affect_jax.core.errors import UserError
from affect_jax.core.registry import describe_unknown_name

PREPARED_FILE = "prepared.json"
Example: Any = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]
READER_BUFFER_BYTES = 1 << 15  # of each open file; about a face
COLUMNS = (
    "expression", "valence", "arousal", "action_units", "action_unit_sides", "landmarks", "aspect",
    "id", "expression_distribution", "votes", "group",
)  # fmt: skip
"""Labels of a record; the last three only if the dataset has them."""

TEXT_COLUMNS = {"id", "group"}


class RecordFile(NamedTuple):
    """An ArrayRecord file: its number of records, and the features of a record."""

    path: str
    length: int
    features: Any


class Records(Sequence):
    """Random access to the records of one or more files; picklable, for worker processes.

    An item is a dictionary as described in `tfds_builder.face_features`; `image` is JPEG bytes.

    **Raises:** `UserError` that names the file if a record is damaged; each block of a file has its
    own checksum.
    """

    def __init__(self, files: Sequence[RecordFile]):
        self.files = files
        self._ends = np.cumsum([file.length for file in files]).tolist()
        self._readers: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_readers": {}}  # open files are not picklable

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: Any) -> dict[str, Any]:
        file, content = self._read(index)
        decoders = {"image": tfds.decode.SkipDecoding()}
        return file.features.deserialize_example_np(content, decoders=decoders)

    def read_jpeg(self, index: Any) -> bytes:
        """Returns the JPEG of a record without decoding its labels, which would take longer."""
        return self._parse(index)["image"].bytes_list.value[0]

    def columns(self) -> dict[str, np.ndarray]:
        """Reads the labels of every record, as in `Split.columns` but with ids as bytes."""
        columns: dict[str, Any] = {}
        texts: dict[str, list[bytes]] = {}
        features = self.files[0].features
        for name in COLUMNS:
            if name in TEXT_COLUMNS and name in features:
                texts[name] = []
            elif name in features:
                shape = (len(self), *features[name].shape)
                columns[name] = np.empty(shape, features[name].np_dtype)
        for index in range(len(self)):
            features = self._parse(index)
            for name, column in columns.items():
                kind = "int64_list" if column.dtype == np.int64 else "float_list"
                column[index] = np.reshape(getattr(features[name], kind).value, column.shape[1:])
            for name, column in texts.items():
                column.append(features[name].bytes_list.value[0])
        return columns | {name: np.array(column, np.bytes_) for name, column in texts.items()}

    def _parse(self, index: Any) -> Any:
        return Example.FromString(self._read(index)[1]).features.feature

    def _read(self, index: Any) -> tuple[RecordFile, bytes]:
        index = range(len(self))[index]
        number = bisect.bisect_right(self._ends, index)
        file, offset = self.files[number], index - self._ends[number]  # negative: from the end
        path = epath.Path(file.path)
        try:
            if number not in self._readers:  # if two threads open it, one reader is kept
                self._readers.setdefault(number, _open_records(path))
            # As a range: the time to read a list of indices grows with the file.
            start = file.length + offset
            if record := self._readers[number].read(start, start + 1)[0]:
                return file, record
        except (RuntimeError, IndexError, FileNotFoundError) as error:
            raise damaged_file_error(path) from error
        raise damaged_file_error(path)  # what a file that was truncated after it was opened gives


def _open_records(path: epath.Path) -> Any:
    from array_record.python.array_record_module import ArrayRecordReader

    path.open("rb").close()  # array_record reports no reason
    options = "readahead_buffer_size:0,max_parallelism:0"
    return ArrayRecordReader(os.fspath(path), options, file_reader_buffer_size=READER_BUFFER_BYTES)


@dataclasses.dataclass(frozen=True, eq=False)
class LabelEdits:
    """Changes of the labels of a split, see `label_edits`.

    **Arguments:**

    - `ignored`: bool [N], faces that lose every label.
    - `changed`: bool [N], faces that lose their distribution and votes.
    - `expression`: int64 [N], the classes after the changes.
    - `summary`: numbers of faces, and the hash of the label noise.
    """

    ignored: np.ndarray
    changed: np.ndarray
    expression: np.ndarray
    summary: Mapping[str, Any]

    def apply(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Changes the label columns of the split in place and returns them."""
        for name, values in columns.items():
            if name == "expression":
                values[:] = self.expression
            elif name not in TEXT_COLUMNS:
                is_class = name in ("expression_distribution", "votes")
                values[self.changed if is_class else self.ignored] = np.nan
        return columns


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a prepared dataset.

    **Arguments:**

    - `name`: `training`, `validation` or another split of the dataset.
    - `records`: random access to its N records, images still encoded.
    - `classes`: names of the expressions, in the order of their ids.
    - `fingerprint`: 64 hexadecimal digits that change with any byte of the records or labels.
    - `folder`, `files`: the folder, and file name -> size and hash as recorded at preparation.
    - `edits`: changes of the labels, or None.
    """

    name: str
    records: Records
    classes: tuple[str, ...]
    fingerprint: str
    folder: epath.Path
    files: Mapping[str, Mapping[str, Any]]
    edits: LabelEdits | None = dataclasses.field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.records)

    def columns(self, *names: str) -> dict[str, np.ndarray]:
        """Reads the labels of all records, in their order, without reading images.

        **Arguments:** `names`: the columns to read; without names, all.

        **Returns:** those of `COLUMNS` that the dataset has, [N, ...], with the types and shapes
        of `tfds_builder.face_features`; `id` and `group` are str.

        **Raises:** `UserError` if the file is damaged.
        """
        name = f"{self.name}.labels.npz"
        self.verify(name)
        with (self.folder / name).open("rb") as file, np.load(file) as table:
            columns = {name: table[name] for name in names or COLUMNS if name in table.files}
        texts = {
            name: np.char.decode(columns[name], "utf-8") for name in TEXT_COLUMNS & columns.keys()
        }
        columns |= texts
        return self.edits.apply(columns) if self.edits else columns

    def verify(self, *names: str) -> None:
        """Reads files of the split, by default all, and compares their hashes.

        Opening a split compares sizes only, and a shard of another preparation may have the same.

        **Raises:** `UserError` that names the first damaged file.
        """
        for name in names or self.files:
            if size_and_hash(self.folder / name) != self.files.get(name):
                raise damaged_file_error(self.folder / name)


def open_split(builder: Any, name: str) -> Split:
    """Opens a split of a prepared builder; checks the sizes of its files but not their content.

    **Raises:** `UserError` for an unknown split, and for a missing or truncated file, which it
    names.
    """
    if hasattr(builder, "open_split"):  # a mixture
        return builder.open_split(name)
    prepared = read_prepared(builder.data_path)
    if name not in prepared["files"]:
        raise UserError(f"{builder.name}: split {describe_unknown_name(name, prepared['files'])}")
    files, info = prepared["files"][name], builder.info.splits.get(name)
    for file, expected in files.items():
        path = builder.data_path / file
        if not path.exists() or path.stat().length != expected["bytes"]:
            raise damaged_file_error(path)
    paths = [builder.data_path / file for file in sorted(files) if not file.endswith(".npz")]
    lengths = info.shard_lengths if info else []
    if len(paths) != len(lengths) or sum(lengths) != prepared["written"][name]:
        raise damaged_file_error(builder.data_path / "dataset_info.json")
    features = builder.info.features
    records = (RecordFile(os.fspath(p), n, features) for p, n in zip(paths, lengths, strict=True))
    classes = tuple(features["expression"].names)
    fingerprint_text = json.dumps([classes, files], sort_keys=True)
    return Split(
        name=name,
        records=Records(list(records)),
        classes=classes,
        fingerprint=hashlib.sha256(fingerprint_text.encode()).hexdigest(),
        folder=builder.data_path,
        files=files,
    )


def join_records(splits: Iterable[Split]) -> Records:
    """The records of several splits, one after another."""
    return Records([file for split in splits for file in split.records.files])


def split_names(builder: Any) -> list[str]:
    """Names of the splits of a prepared builder, or of all parts of a mixture."""
    builders = getattr(builder, "builders", {"": builder}).values()
    files = [read_prepared(part.data_path)["files"] for part in builders]
    return list(dict.fromkeys(itertools.chain(*files)))


def read_prepared(folder: epath.Path) -> dict[str, Any]:
    """Reads a dataset's `prepared.json`: source hashes, file hashes and written records of splits.

    **Raises:** `UserError` if the file is missing or damaged.
    """
    path = folder / PREPARED_FILE
    try:
        prepared = json.loads(path.read_text())
        files = {
            split: {
                name: {"bytes": int(file["bytes"]), "sha256": str(file["sha256"])}
                for name, file in files.items()
            }
            for split, files in prepared["files"].items()
        }
        written = {split: int(prepared["counts"][split]["written"]) for split in files}
        return {"source": dict(prepared["source"]), "files": files, "written": written}
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise damaged_file_error(path) from error


def verify_in_background(splits: Sequence[Split]) -> Future[None]:
    """Verifies the hashes of splits in a background thread.

    Save results of a split only after the `result` of the future, which raises a `UserError` for a
    damaged file.
    """

    def verify() -> None:
        for split in splits:
            split.verify()

    pool = ThreadPoolExecutor(1)  # hashing releases Python's lock
    future = pool.submit(verify)
    pool.shutdown(wait=False)
    return future


def damaged_file_error(path: epath.Path) -> UserError:
    """Creates the error for a missing or damaged file of a prepared dataset."""
    return UserError(
        f"{path}: is missing or damaged; delete the folder {path.parent} to prepare the dataset "
        "again"
    )


def restore_aspect_ratio(landmarks: np.ndarray, aspect: np.ndarray) -> np.ndarray:
    """Scales x of landmarks [N, 68, 2] of square images, so that x and y have the same unit."""
    return landmarks * np.stack([aspect, np.ones_like(aspect)], axis=-1)[:, None]


def size_and_hash(path: epath.Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as `prepared.json` stores them."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")  # pyright: ignore[reportArgumentType]
    return {"bytes": path.stat().length, "sha256": digest.hexdigest()}
