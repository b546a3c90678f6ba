"""Base class of datasets of faces: the features of their records, and their preparation.

Records are stored in ArrayRecord files, which allow random access without TensorFlow. The same
folder has the labels of each split (`training.labels.npz`), and `prepared.json` with counts, sizes
and hashes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import filelock
import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.core.paths import is_local
from affect_jax.core.registry import require_option
from affect_jax.data import beam_pipeline, object_store, record_writer
from affect_jax.data.annotation_parsing import NUM_LANDMARKS
from affect_jax.data.face_images import make_record
from affect_jax.data.record_reader import (
    PREPARED_FILE,
    RecordFile,
    Records,
    Split,
    damaged_file_error,
    open_split,
    read_prepared,
    size_and_hash,
)
from affect_jax.data.worker_processes import print_line
from affect_jax.facs.action_units import UNITS

__all__ = ["FacesBuilder", "FacesConfig", "Split", "make_record", "open_split", "prepare_records"]


def face_features(
    image_size: int, classes: Sequence[str] = labels.EXPRESSIONS, extra_features: Sequence[str] = ()
) -> tfds.features.FeaturesDict:
    """The features of a record; S is the image size, in pixels.

    - `image`: JPEG, RGB, uint8 [S, S, 3].
    - `expression`: int64, index in `classes`; -1: not annotated.
    - `valence`, `arousal`: float32 in [-1, 1]; NaN: not annotated.
    - `landmarks`: float32 [68, 2], x and y in pixels of `image`; (0, 0) is the centre of its first
      pixel; NaN: not annotated.
    - `aspect`: float32, width over height of the crop before it was resized to a square.
    - `action_units`: float32 [18], intensities in [0, 1] in the order of
      `facs.action_units.UNITS`, the maximum of both sides; NaN: not annotated.
    - `action_unit_sides`: float32 [2, 18], of the left and right side of the image; NaN: unknown.
    - `box`: float32 [4], x, y, width and height of the face in pixels of the source image.
    - `id`: text, unique within a split: the origin of the face.

    Further features of datasets that have them (`extra_features`):

    - `expression_distribution`: float32 [C], probabilities of the classes; NaN: not annotated.
    - `votes`: float32 [C], the number of raters who chose each class; NaN: not annotated.
    - `group`: text, the person or video of the face; empty: unknown.
    """
    weights = tfds.features.Tensor(shape=(len(classes),), dtype=np.float32)
    extra = {"expression_distribution": weights, "votes": weights, "group": tfds.features.Text()}
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
            **{name: extra[name] for name in extra_features},
        }
    )


@dataclasses.dataclass(eq=False)
class FacesConfig(tfds.core.BuilderConfig):
    """A variant of a dataset. Its name is the folder's, so variants need different names.

    **Arguments:**

    - `image_size`: side of the stored faces, pixels.
    - `classes`: names of the expressions, in the order of their ids.
    - `margin`: fraction of an annotated box that is added on each side before cropping.
    - `extra_features`: names of further features, see `face_features`.
    - `align`: `box` or `eyes`, see `face_images.crop_face`.
    """

    image_size: int = 256
    classes: Sequence[str] = labels.EXPRESSIONS
    margin: float = 0.0
    extra_features: Sequence[str] = ()
    align: str = "box"


Builder = TypeVar("Builder", bound="FacesBuilder")


class FacesBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base class of datasets of faces.

    A subclass implements `_split_generators`: split -> iterable of (id, record). It may fill
    `counts[split]` with `read` and `skipped`, and override `source_hashes`. Records are stored in
    the order of a hash of their ids, so each preparation writes the same order.

    **Arguments:** `num_workers`: worker processes; None or 0: one per core. The records do not
    depend on it.
    """

    VERSION = tfds.core.Version("1.1.0")
    # Nothing is downloaded. By default tfds looks up a list of checksums with importlib_resources,
    # which it does not install.
    url_infos = None
    beam = ""  # options of an Apache Beam pipeline that creates the records

    def __init__(
        self, *, config: FacesConfig, data_dir: str | os.PathLike, num_workers: int | None = None
    ):
        require_option("data.options.margin", config.margin, lambda v: 0 <= v <= 10, "in [0, 10]")
        if num_workers is not None:
            option = "data.options.num_workers"
            require_option(option, num_workers, lambda v: 0 <= v <= 256, "between 0 and 256")
        self.num_workers = num_workers
        self.counts: dict[str, dict[str, int]] = {}
        folder, self.store_url = os.fspath(data_dir), ""
        if not is_local(folder):
            url = folder.rstrip("/")
            folder = os.fspath(object_store.local_folder(url))
            self.store_url = f"{url}/{self.name}/{config.name}/{self.VERSION}"
        info = epath.Path(folder, self.name, config.name, str(self.VERSION), "dataset_info.json")
        try:
            with silence_tfds():
                super().__init__(config=config, data_dir=folder, file_format="array_record")
        except Exception as error:  # for a damaged file, tfds raises errors of many types
            if not info.exists():
                raise
            raise damaged_file_error(info) from error

    def source_hashes(self) -> dict[str, str]:
        """Hashes of the source files: file name -> hash.

        **Raises:** `UserError` if source files are missing.
        """
        return {}

    def _info(self) -> tfds.core.DatasetInfo:
        config: Any = self.builder_config
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=face_features(config.image_size, config.classes, config.extra_features),
        )

    def _generate_examples(self, examples: Any) -> Any:  # pyright: ignore
        return examples

    def _example_writer(self) -> Any:
        return record_writer.RecordWriter()

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        """Writes the records, labels and `prepared.json` into the unfinished folder."""
        super()._download_and_prepare(dl_manager, download_config)
        files = {}
        for name, split in self.info.splits.items():
            paths = [epath.Path(path) for path in split.filepaths]
            table = self.data_path / f"{name}.labels.npz"
            shards = zip(paths, split.shard_lengths, strict=True)
            records = [RecordFile(os.fspath(path), n, self.info.features) for path, n in shards]
            columns: Any = Records(records).columns()  # read back, so that both agree
            with table.open("wb") as file:
                np.savez(file, **columns)
            files[name] = {path.name: size_and_hash(path) for path in (*paths, table)}
            num_written = split.num_examples
            counts = self.counts.setdefault(name, {"read": num_written, "skipped": 0})
            counts["written"] = num_written
            if counts["read"] != num_written + counts["skipped"]:
                raise RuntimeError(f"{self.name}, {name}: rows were lost: {counts}")
        prepared = {"source": self.source_hashes(), "counts": self.counts, "files": files}
        (self.data_path / PREPARED_FILE).write_text(json.dumps(prepared, indent=1))

    def _log_download_bytes(self) -> None:
        """`tfds` would print that nothing is downloaded."""

    def _log_download_done(self) -> None:
        for name, counts in self.counts.items():
            print_line(
                f"{self.name}: {name}: {counts['read']:,} read = {counts['written']:,} written"
                f" + {counts['skipped']:,} skipped"
            )


@contextlib.contextmanager
def silence_tfds() -> Iterator[None]:
    """Silences the warnings and progress bars of tfds; preparation prints its own."""
    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


@silence_tfds()
def prepare_records(builder: Builder) -> Builder:
    """Writes a builder's records if they do not exist, and returns the builder.

    The folder gets its final name only when all records are written. If several processes share the
    folder, one writes and the others wait. With an object store, existing records are downloaded,
    and new ones are uploaded; see `data.object_store`.

    **Raises:** `UserError` if existing records were prepared from other files, or if the records
    cannot be written.
    """
    try:
        if not builder.is_prepared():
            _write(builder)
    except OSError as error:
        raise UserError(
            f"{builder.data_path}: cannot be written ({error.strerror or error}); "
            "choose another folder with --config.data.data_dir"
        ) from error
    prepared = read_prepared(builder.data_path)["source"]
    try:
        current = builder.source_hashes()
    except UserError:  # prepared records suffice without the source files
        return builder
    names = sorted(prepared.keys() | current.keys())
    changed = [name for name in names if prepared.get(name) != current.get(name)]
    if changed:
        raise UserError(
            f"{builder.data_path} was prepared from other files ({', '.join(changed)} differ); "
            "choose another --config.data.data_dir, or delete that folder to prepare it again"
        )
    return builder


def _write(builder: FacesBuilder) -> None:
    folder, store_url = pathlib.Path(builder.data_path), builder.store_url
    if folder.exists():  # tfds would use it as it is
        raise damaged_file_error(builder.data_path / "dataset_info.json")
    options = beam_pipeline.parse_options(builder.beam) if builder.beam else None
    if not store_url:
        builder.source_hashes()  # raises an error before folders are created
    folder.parent.mkdir(parents=True, exist_ok=True)
    print_line(f"{builder.name}: preparing {folder}, after any other process that prepares it")
    with (
        filelock.FileLock(folder.with_name("preparing.lock")),  # released when its process dies
        tempfile.TemporaryDirectory() as no_downloads,
        record_writer.patched_tfds_io(),
    ):
        for unfinished in folder.parent.glob(f"incomplete.*_{builder.version}"):
            shutil.rmtree(unfinished)  # of a killed process
        # Another process or machine may have prepared the records in the meantime.
        if builder.is_prepared() or (store_url and object_store.download(store_url, folder)):
            builder.info.read_from_directory(folder)
            return
        builder.download_and_prepare(
            download_dir=no_downloads,
            download_config=tfds.download.DownloadConfig(
                try_download_gcs=False, beam_options=options
            ),
        )
        if store_url:
            object_store.upload(folder, store_url)
