"""What every data set writes, and how it is prepared and opened.

    builder = prepare(MyFaces(data_dir="data", config=FacesConfig(name="mine", image_size=256)))
    split = open_split(builder, "training")
    split.records[7]["image"]  # JPEG bytes
    split.columns()["expression"]  # int64 [N], in the order of the records

Records are ArrayRecord files, read at random without TensorFlow. Beside them lie, per split, the
labels of all records (`training.labels.npz`); `prepared.json` has counts, sizes and hashes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import filelock
import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from affect_jax.core import labels
from affect_jax.core.errors import UserError, first_line
from affect_jax.core.paths import is_local
from affect_jax.data import beam_pipeline, record_writer
from affect_jax.data.object_store import Store
from affect_jax.data.records import (
    PREPARED,
    Records,
    Split,
    damaged,
    open_split,
    read_prepared,
    size_and_hash,
)
from affect_jax.data.worker_processes import say
from affect_jax.facs.action_units import UNITS

__all__ = [
    "FacesBuilder",
    "FacesConfig",
    "Split",
    "face_features",
    "open_split",
    "prepare_records",
    "make_record",
]

NUM_LANDMARKS = 68


def face_features(
    image_size: int, classes: Sequence[str] = labels.EXPRESSIONS
) -> tfds.features.FeaturesDict:
    """The features of a record; S is the image size, in pixels.

    - `image`: JPEG, RGB, uint8 [S, S, 3].
    - `expression`: int64, the class's place in `classes`; -1: none was given.
    - `valence`, `arousal`: float32 in [-1, 1]; NaN: not annotated.
    - `landmarks`: float32 [68, 2], x and y in pixels of `image`, (0, 0) being the centre of its
      first pixel; NaN: none.
    - `aspect`: float32, width over height of what was cut from the source: `image` and `landmarks`
      show it made square.
    - `action_units`: float32 [18], intensities in [0, 1] in the order of
      `facs.action_units.UNITS`, the stronger side's; NaN: none.
    - `action_unit_sides`: float32 [2, 18], of the picture's left and right side; NaN: unknown.
    - `box`: float32 [4], x, y, width and height of the face in pixels of the source image.
    - `id`: text, unique within a split: where the face came from.
    """
    image = tfds.features.Image(shape=(image_size, image_size, 3), encoding_format="jpeg")
    return tfds.features.FeaturesDict(
        {
            "image": image,
            "expression": tfds.features.ClassLabel(names=list(classes)),
            "valence": tfds.features.Scalar(np.float32),
            "arousal": tfds.features.Scalar(np.float32),
            "landmarks": tfds.features.Tensor(shape=(NUM_LANDMARKS, 2), dtype=np.float32),
            "aspect": tfds.features.Scalar(np.float32),
            "action_units": tfds.features.Tensor(shape=(len(UNITS),), dtype=np.float32),
            "action_unit_sides": tfds.features.Tensor(shape=(2, len(UNITS)), dtype=np.float32),
            "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "id": tfds.features.Text(),
        }
    )


def make_record(
    identifier: str,
    image: bytes,
    expression: int,
    *,
    box: Sequence[float],
    valence: float = np.nan,
    arousal: float = np.nan,
    landmarks: np.ndarray | None = None,
    aspect: float = 1.0,
    action_units: np.ndarray | None = None,
    action_unit_sides: np.ndarray | None = None,
) -> dict[str, Any]:
    """One record of `features`; labels that are not given are NaN.

    **Arguments:**

    - `image`: an encoded JPEG file of the builder's image size.
    """

    def given(values: np.ndarray | None, *shape: int) -> np.ndarray:
        return np.asarray(np.full(shape, np.nan) if values is None else values, np.float32)

    return {
        "image": io.BytesIO(image),  # a file is passed through, an array would be encoded
        "expression": int(expression),
        "valence": np.float32(valence),
        "arousal": np.float32(arousal),
        "landmarks": given(landmarks, NUM_LANDMARKS, 2),
        "aspect": np.float32(aspect),
        "action_units": given(action_units, len(UNITS)),
        "action_unit_sides": given(action_unit_sides, 2, len(UNITS)),
        "box": np.asarray(box, np.float32),
        "id": identifier,
    }


@dataclasses.dataclass(eq=False)
class FacesConfig(tfds.core.BuilderConfig):
    """One variant of a data set; its name is its folder's, and must tell apart what differs.

    **Arguments:**

    - `image_size`: side of the stored faces, pixels.
    - `classes`: names of the expressions, in the order of their ids.
    """

    image_size: int = 256
    classes: Sequence[str] = labels.EXPRESSIONS


Builder = TypeVar("Builder", bound="FacesBuilder")


class FacesBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set of faces: give `_split_generators` (split -> iterable of (id, `record`)).

    Records are stored in the order of a hash of their ids: the same whoever prepares them.
    A subclass may fill `counts[split]` with `read`, `written` and `skipped`, and override `source`.
    """

    VERSION = tfds.core.Version("1.1.0")
    # Nothing is downloaded. tfds would look for a list of checksums with importlib_resources, which
    # it does not install.
    url_infos = None

    def __init__(self, *, config: FacesConfig, data_dir: str | os.PathLike):
        self.counts: dict[str, dict[str, int]] = {}
        place = os.fspath(data_dir)
        self.store = None if is_local(place) else Store(place)
        try:
            with quiet():  # tfds warns of every config that is not in a list of its own
                super().__init__(
                    config=config,
                    data_dir=os.fspath(self.store.folder) if self.store else place,
                    file_format="array_record",
                )
        except Exception as error:  # of a damaged file tfds lets anything through
            folder = epath.Path(self.store.folder if self.store else place) / self.name
            if isinstance(error, UserError) or not (folder / config.name).exists():
                raise
            raise UserError(
                f"{folder / config.name}: what describes its records cannot be read "
                f"({first_line(error, 99)}); delete that folder to prepare the data set again"
            ) from error

    def source(self) -> dict[str, str]:
        """What the records are made from: file name -> hash; `{}` where that is not at hand."""
        return {}

    def pipeline_options(self) -> Any:
        """Of the Apache Beam pipeline that makes the records; None where none does."""
        return None

    def count(self) -> None:
        """Fills `counts` once the records are written, where that was not possible before."""

    def check_source(self) -> None:
        """Raises `UserError` where what the records are made from is not there, before any work."""

    def _info(self) -> tfds.core.DatasetInfo:
        config: Any = self.builder_config
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=face_features(config.image_size, config.classes),
        )

    def _generate_examples(self, examples: Any) -> Any:  # pyright: ignore
        return examples

    def _example_writer(self) -> Any:
        return record_writer.Writer()

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        """Writes the records and, in the same unfinished folder, what is to lie beside them."""
        super()._download_and_prepare(dl_manager, download_config)
        self.count()
        files = {}
        for name, split in self.info.splits.items():
            paths = [epath.Path(path) for path in split.filepaths]
            table = self.data_path / f"{name}.labels.npz"
            records = Records(paths, split.shard_lengths, self.info.features)
            columns: Any = records.columns()  # read back, so that both must agree
            with table.open("wb") as file:
                np.savez(file, **columns)
            files[name] = {path.name: size_and_hash(path) for path in (*paths, table)}
            written = split.num_examples
            counts = self.counts.setdefault(name, {"read": written, "skipped": 0})
            counts["written"] = written
            if counts["read"] != written + counts["skipped"]:
                raise RuntimeError(f"{self.name}, {name}: rows went missing: {counts}")
        prepared = {"source": self.source(), "counts": self.counts, "files": files}
        (self.data_path / PREPARED).write_text(json.dumps(prepared, indent=1))

    def _log_download_bytes(self) -> None:
        say(f"{self.name}: preparing {self.data_path_final}")

    def _log_download_done(self) -> None:
        for name, counts in self.counts.items():
            say(
                f"{self.name}: {name}: {counts['read']:,} read = {counts['written']:,} written"
                f" + {counts['skipped']:,} skipped"
            )

    @property
    def data_path_final(self) -> str:
        """Where the records will lie; `data_path` is another folder while they are written."""
        return os.path.join(
            self._data_dir_root, self.name, str(self.builder_config_name), str(self.version)
        )


def prepare_records(builder: Builder) -> Builder:
    """Writes a builder's records unless they are there; downloads nothing. Returns the builder.

    Records appear under their name only when all are written; of several processes that share the
    folder one writes and the others wait. Of an object store what is there is copied here first,
    and what is written here is copied there; see `data.store`.

    **Raises:** `UserError` when records are there that were made from other files, or when they
    cannot be written.
    """
    with quiet():
        try:
            if not builder.is_prepared():
                if builder.data_path.exists():  # tfds would take it as it is
                    raise damaged(builder.data_path / "dataset_info.json", "the file is missing")
                if not builder.store:
                    builder.check_source()
                _write(builder)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                f"{builder.data_path}: cannot be written ({reason}); "
                "choose another folder with --config.data.data_dir"
            ) from error
    before, now = read_prepared(builder)["source"], builder.source()
    changed = [name for name in now if name in before and now[name] != before[name]]
    if now and (changed or set(now) != set(before)):
        names = ", ".join(changed or sorted(set(now) ^ set(before)))
        raise UserError(
            f"{builder.data_path} was prepared from other files ({names} differ); "
            "choose another --config.data.data_dir, or delete that folder to prepare it again"
        )
    return builder


def _write(builder: FacesBuilder) -> None:
    settings = tfds.download.DownloadConfig(
        try_download_gcs=False, beam_options=builder.pipeline_options()
    )
    store, place = builder.store, pathlib.Path(builder.data_path_final)
    if store and settings.beam_options is not None:
        raise UserError(
            f"{store.url}: the workers of a pipeline write into a folder that all of them see; "
            "prepare into one with --config.data.data_dir, then copy it to the store"
        )
    with _preparation_lock(builder), tempfile.TemporaryDirectory() as no_downloads:
        # By another process in the meantime, or by another machine.
        if builder.is_prepared() or (store and store.fetch(place)):
            builder.info.read_from_directory(builder.data_path)
            return
        if store:
            builder.check_source()
        write = functools.partial(
            builder.download_and_prepare, download_dir=no_downloads, download_config=settings
        )
        with record_writer.ours():
            if settings.beam_options is None:
                write()
            else:
                beam_pipeline.run(write, settings.beam_options)
        if store:
            store.send(place)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and progress bars of tfds: preparation has its own."""
    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


@contextlib.contextmanager
def _preparation_lock(builder: FacesBuilder) -> Iterator[None]:
    """One process prepares; what a killed one left unfinished is removed."""
    folder = builder.data_path.parent
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / "preparing.lock")  # freed when its process dies
    try:
        lock.acquire(timeout=1)
    except filelock.Timeout:
        say(f"{builder.name}: waiting for another process that prepares {builder.data_path}")
        lock.acquire()
    try:
        for unfinished in folder.glob(f"incomplete.*_{builder.version}"):
            unfinished.rmtree()
        yield
    finally:
        lock.release()
