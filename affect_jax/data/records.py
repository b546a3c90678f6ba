"""Prepared records: random access, the labels of a whole split, and whether they are undamaged."""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import json
import operator
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from affect_jax.core.errors import UserError
from affect_jax.core.registry import unknown

PREPARED = "prepared.json"
Example: Any = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]
READER_BUFFER_BYTES = 1 << 15  # of each open file; about a face
DECODERS = {"image": tfds.decode.SkipDecoding()}
COLUMNS = (
    "expression", "valence", "arousal", "action_units", "action_unit_sides", "landmarks", "aspect",
    "id",
)  # fmt: skip


class Records(Sequence):
    """Random access to the records of some files; picklable, for loader processes.

    An item is the dictionary of `features`, its `image` still JPEG bytes.

    **Arguments:**

    - `paths`, `lengths`: ArrayRecord files, and how many records each holds.
    - `feature_dict`: what a record consists of.

    **Raises:** `UserError` that names the file, for a record that is damaged: each block of a file
    has its own checksum.
    """

    def __init__(
        self, paths: Sequence[str | os.PathLike], lengths: Sequence[int], feature_dict: Any
    ):
        self._paths = [os.fspath(path) for path in paths]
        self._ends = np.cumsum(lengths).tolist()
        self._features = feature_dict
        self._readers: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_readers": {}}  # open files stay behind

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: Any) -> dict[str, Any]:
        return self._features.deserialize_example_np(self._example(index), decoders=DECODERS)

    def image(self, index: Any) -> bytes:
        """The JPEG file of a record; its labels, which take longer to read, are left alone."""
        return self._parsed(index)["image"].bytes_list.value[0]

    def columns(self) -> dict[str, np.ndarray]:
        """All labels, as of `Split.columns` but with ids in bytes; it reads every record."""
        columns: dict[str, Any] = {}
        for key in COLUMNS[:-1]:
            feature = self._features[key]
            columns[key] = np.empty((len(self), *feature.shape), feature.np_dtype)
        rows = {key: column.reshape(len(self), -1) for key, column in columns.items()}
        columns["id"] = [b""] * len(self)
        for place in range(len(self)):
            stored = self._parsed(place)
            for key, row in rows.items():
                kind = "int64_list" if row.dtype == np.int64 else "float_list"
                row[place] = getattr(stored[key], kind).value
            columns["id"][place] = stored["id"].bytes_list.value[0]
        return columns | {"id": np.array(columns["id"], np.bytes_)}

    def _parsed(self, index: Any) -> Any:
        """A record as it is stored: reading it as features takes several times as long."""
        return Example.FromString(self._example(index)).features.feature

    def _example(self, index: Any) -> Any:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        file = bisect.bisect_right(self._ends, index)
        place = index - (self._ends[file - 1] if file else 0)
        try:  # as a range: to read a list of places takes longer, the more records a file has
            return self._reader(file).read(place, place + 1)[0]
        except (RuntimeError, IndexError) as error:  # how array_record reports damage
            path = epath.Path(self._paths[file])
            raise damaged(path, f"record {index} cannot be read") from error

    def _reader(self, file: int) -> Any:
        """Opened at its first use; two threads may open the same, and one of both is kept."""
        if file not in self._readers:
            from array_record.python.array_record_module import ArrayRecordReader

            path = epath.Path(self._paths[file])
            try:  # array_record itself does not say why it cannot
                path.open("rb").close()
            except FileNotFoundError:
                raise damaged(path, "the file is missing") from None
            except OSError as error:
                raise UserError(f"{path}: cannot be opened ({error.strerror})") from error
            options = "readahead_buffer_size:0,max_parallelism:0"
            reader = ArrayRecordReader(
                os.fspath(path), options, file_reader_buffer_size=READER_BUFFER_BYTES
            )
            if not reader.ok():
                raise damaged(path, "it cannot be read as records")
            self._readers.setdefault(file, reader)
        return self._readers[file]


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a prepared data set.

    **Arguments:**

    - `name`: `training` or `validation`.
    - `records`: random access to its N records, images still encoded.
    - `classes`: names of the expressions, in the order of their ids.
    - `fingerprint`: 64 hexadecimal digits that change with any byte of the records or labels.
    - `folder`, `files`: where they lie; file name -> size and hash as they were written.
    """

    name: str
    records: Records
    classes: tuple[str, ...]
    fingerprint: str
    folder: epath.Path
    files: Mapping[str, Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.records)

    def columns(self, *names: str) -> dict[str, np.ndarray]:
        """The labels of all records, in their order, without reading an image.

        **Arguments:**

        - `names`: which of them; none: all.

        **Returns:** `expression` int64 [N], `valence` and `arousal` float32 [N], `action_units`
        float32 [N, 18], `action_unit_sides` float32 [N, 2, 18], `landmarks` float32 [N, 68, 2],
        `aspect` float32 [N], `id` str [N]; NaN as in `features`.

        **Raises:** `UserError` when the file was damaged since it was written.
        """
        path = self.folder / f"{self.name}.labels.npz"
        if size_and_hash(path) != self.files[path.name]:
            raise damaged(path, "its bytes are not those that were written")
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as table:
                missing = set(COLUMNS) - set(table.files)
                columns = {key: table[key] for key in set(names or COLUMNS) - missing}
        except ValueError as error:  # not even what the hash was made of is a table
            raise damaged(path, f"it holds no table: {error}") from error
        if missing:
            raise damaged(path, f"an earlier version wrote it, without {min(missing)!r}")
        ids = {"id": np.char.decode(columns["id"], "utf-8")} if "id" in columns else {}
        return columns | ids

    def verify(self) -> None:
        """Reads every file of the split and compares its hash; opening compares sizes only.

        **Raises:** `UserError` that names the first damaged file.
        """
        for name, expected in self.files.items():
            if size_and_hash(self.folder / name) != expected:
                raise damaged(self.folder / name, "its bytes are not those that were written")


def open_split(builder: Any, name: str) -> Split:
    """Opens one split of a prepared builder; its files' sizes are checked, their content is not.

    **Raises:** `UserError` for an unknown split, and for a missing or truncated file, by name.
    """
    prepared = read_prepared(builder)
    if name not in prepared["files"]:
        raise UserError(f"{builder.name}: split {unknown(name, prepared['files'])}")
    files = prepared["files"][name]
    for file, expected in files.items():
        path = builder.data_path / file
        if not path.exists():
            raise damaged(path, "the file is missing")
        size = path.stat().length
        if size != expected["bytes"]:
            raise damaged(path, f"it has {size:,} bytes, not {expected['bytes']:,}")
    classes = tuple(builder.info.features["expression"].names)
    text = json.dumps([classes, files], sort_keys=True)
    info = builder.info.splits[name]
    told, written = sum(info.shard_lengths), prepared["counts"][name]["written"]
    if told != written:
        description = builder.data_path / "dataset_info.json"
        raise damaged(description, f"it tells of {told:,} records, not {written:,}")
    return Split(
        name=name,
        records=Records(info.filepaths, info.shard_lengths, builder.info.features),
        classes=classes,
        fingerprint=hashlib.sha256(text.encode()).hexdigest(),
        folder=builder.data_path,
        files=files,
    )


def read_prepared(builder: Any) -> dict[str, Any]:
    path = builder.data_path / PREPARED
    try:
        prepared = json.loads(path.read_text())
    except FileNotFoundError:
        raise damaged(path, "the file is missing") from None
    except ValueError:
        raise damaged(path, "it is not JSON") from None
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror})") from error
    try:
        _ = prepared["source"].items()
        for split, files in prepared["files"].items():
            _ = prepared["counts"][split]["written"] + 0
            for entry in files.values():
                _ = entry["bytes"] + 0, entry["sha256"].encode()
    except (TypeError, KeyError, AttributeError):
        raise damaged(path, "it names no files with their hashes") from None
    return prepared


class Verification:
    """Splits' hashes, compared in a thread while something else is done. A context manager.

    Opening a split compares sizes, but shards of another preparation may be as large. What was
    made of a split is to be kept only once `check` has returned.
    """

    def __init__(self, splits: Sequence[Split]):
        self._pool = ThreadPoolExecutor(1)  # hashing lets other threads run
        self._found = [self._pool.submit(split.verify) for split in splits]

    def check(self) -> None:
        """**Raises:** `UserError` that names the first damaged file. Waits for the hashes."""
        for found in self._found:
            found.result()

    def __enter__(self) -> Verification:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def damaged(path: epath.Path, what: str) -> UserError:
    """What is wrong with a file of a prepared data set, and what to do about it."""
    return UserError(
        f"{path}: {what}; delete the folder {path.parent} to prepare the data set again"
    )


def unsquared(landmarks: np.ndarray, aspect: np.ndarray) -> np.ndarray:
    """Landmarks [N, 68, 2] of square images, with one scale for x and y again: heights are kept."""
    return landmarks * np.stack([aspect, np.ones_like(aspect)], axis=-1)[:, None]


def size_and_hash(path: epath.Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}
