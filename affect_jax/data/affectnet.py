"""AffectNet, in the layouts of its first and second release.

Mollahosseini, Hasani and Mahoor, "AffectNet", IEEE Transactions on Affective Computing, 2017. The
data require a licence from the authors; this module reads the files that they provide.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from affect_jax.core.errors import UserError
from affect_jax.core.registry import describe_unknown_name
from affect_jax.data import DATASETS, annotation_parsing, face_images
from affect_jax.data.image_files_builder import (
    ImageFilesBuilder,
    ImageFilesConfig,
    SplitSource,
    file_hash,
    read_csv,
)
from affect_jax.data.tfds_builder import prepare_records
from affect_jax.data.worker_processes import print_line

HEADER = (
    "subDirectory_filePath",
    *annotation_parsing.BOX_FIELDS,
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
VARIANTS = {
    "manual": "first release, annotated by hand: training.csv and validation.csv",
    "automatic": "first release, annotated by a network: automatically_annotated.csv",
    "second": "second release, annotated by hand: train_set/ and val_set/",
}
CONFIGS = {
    name: ImageFilesConfig(name=f"{name}_256", description=text) for name, text in VARIANTS.items()
}
ROWS_TO_PROBE = 100


class AffectNet(ImageFilesBuilder):
    """Faces from the web with expression, valence, arousal and 68 landmarks.

    All rows are written, including the expressions "none", "uncertain" and "non-face", which are
    masked in batches. The face is the annotated box, clipped at the border of the image. Boxes and
    landmarks are in pixels of the stored image: EXIF rotation is ignored, as by the tools that made
    the annotations. In the second release, the images are already cropped to the faces, and
    landmarks are in pixels of the crops.

    The automatic set has only a training split. If the manual set's validation.csv and images are
    in the same folder, they become its `validation` split.

    **Arguments:**

    - `manual_dir`: the folder with the release; one level of nesting more or less is accepted.
    - `images`: False if only labels are read; the photographs may then be missing.
    """

    name = "affectnet"
    BUILDER_CONFIGS = list(CONFIGS.values())

    def __init__(self, *, manual_dir: str | os.PathLike = "", images: bool = True, **options: Any):
        self._images = images
        self._folder = pathlib.Path(manual_dir).expanduser() if manual_dir else None
        super().__init__(**options)

    @property
    def _variant(self) -> str:
        return str(self.builder_config_name).split("_")[0]

    @functools.cached_property
    def _release_files(self) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
        """Split -> (table, image folder); the table is a CSV file or a folder of .npy files."""
        if self._folder is None or not self._folder.is_dir():
            raise missing_release_error(self._folder, self._variant, "no such folder")
        if self._variant == "second":
            return find_second_release(self._folder)
        return find_first_release(self._folder, self._variant, images=self._images)

    def check_source(self) -> None:
        _ = self._release_files  # raises if files are missing

    def source_hashes(self) -> dict[str, str]:
        try:
            release = self._release_files
        except UserError:  # prepared records suffice without the release
            return {}
        if self._variant == "second":
            return {
                f"{name}: {table.name}": _hash_file_names(table)
                for name, (table, _) in release.items()
            }
        return {table.name: file_hash(table) for table, _ in release.values()}

    def sources(self) -> dict[str, SplitSource]:
        create_source = _create_npy_source if self._variant == "second" else _create_csv_source
        return {
            split: create_source(table, images)
            for split, (table, images) in self._release_files.items()
        }


@DATASETS.register("affectnet")
def affectnet(
    *,
    manual_dir: str = "",
    data_dir: str = "data",
    variant: str = "manual",
    image_size: int = 256,
    margin: float = 0.0,
    max_skipped: float = 0.01,
    num_workers: int | None = None,
    beam: str = "",
) -> ImageFilesBuilder:
    """AffectNet from a release on disk, prepared once.

    **Arguments:**

    - `manual_dir`: folder of the release; not needed after the records are prepared.
    - `data_dir`: folder for the records, which are written to a subfolder per variant.
    - `variant`: `manual`, `automatic` or `second`, see `VARIANTS`.
    - `image_size`: side of the stored faces, pixels.
    - `margin`: fraction of the box's width and height that is added on each side.
    - `max_skipped`: fraction of a split's rows that may be unusable; `skipped.csv` lists each.
    - `num_workers`: processes that read images; None: one per core.
    - `beam`: options of an Apache Beam pipeline that reads the images instead, on one or more
      machines, for example `--runner=FlinkRunner --flink_master=...`; the records are the same.

    **Raises:** `UserError` if the release is missing, if too many rows are unusable, or if existing
    records were prepared from another release.
    """
    if variant not in VARIANTS:
        raise UserError(f"affectnet: variant {describe_unknown_name(variant, VARIANTS)}")
    config = CONFIGS[variant]
    if image_size != config.image_size or margin:
        name = f"{variant}_{image_size}" + (f"_margin_{margin:g}" if margin else "")
        config = ImageFilesConfig(
            name=name, description=config.description, image_size=image_size, margin=margin
        )
    return prepare_records(
        AffectNet(
            config=config,
            data_dir=data_dir,
            manual_dir=manual_dir,
            max_skipped=max_skipped,
            num_workers=num_workers,
            beam=beam,
        )
    )


def missing_release_error(folder: pathlib.Path | None, variant: str, problem: str) -> UserError:
    """Creates the error for a missing release, with instructions to get and place the data."""
    location = f"{folder}: {problem}" if folder else "data.manual_dir is empty"
    if variant == "second":
        layout = "train_set/ and val_set/, each with images/ and annotations/"
    elif variant == "automatic":
        layout = "automatically_annotated.csv and Automatically_Annotated_Images/"
    else:
        layout = "training.csv, validation.csv and Manually_Annotated_Images/"
    return UserError(
        f"AffectNet is missing ({location})",
        [
            "AffectNet is a dataset of a million faces from the web, 440,000 of them annotated by"
            " hand with expression, valence and arousal (Mollahosseini et al. 2017).",
            "It needs a licence from its authors (University of Denver):"
            " http://mohammadmahoor.com/affectnet/",
            f"Put {layout} into one folder and pass its path:"
            " --config.data.manual_dir=/path/to/AffectNet",
            "Rendered faces need no licence: python -m affect_jax.main"
            " --config=configs/alexnet_weighted.py:synthetic_faces",
        ],
    )


def find_first_release(
    folder: pathlib.Path, variant: str, *, images: bool = True
) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
    """Finds the tables and image folders of the first release: split -> (table, image folder).

    **Arguments:**

    - `images`: False: do not search for image folders; use the folder of each table.
    """

    def find_images(table: pathlib.Path, name: str) -> pathlib.Path:
        return _find_images(folder, table, name) if images else table.parent

    if variant == "automatic":
        table = _find_table(folder, "automatically_annotated.csv", variant)
        release = {"training": (table, find_images(table, "Automatically_Annotated"))}
        try:
            table = _find_table(folder, "validation.csv", variant)
            release["validation"] = (table, find_images(table, "Manually_Annotated"))
        except UserError as error:
            missing = str(error).splitlines()[0]
            print_line(f"affectnet: the automatic set has no validation split: {missing}")
        return release
    release = {}
    for split in ("training", "validation"):
        table = _find_table(folder, f"{split}.csv", variant)
        release[split] = (table, find_images(table, "Manually_Annotated"))
    return release


def find_second_release(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
    """Finds the `annotations/` and `images/` folders of the second release, by split."""
    release = {}
    for split, name in (("training", "train_set"), ("validation", "val_set")):
        for base in _nearby_folders(folder):
            for candidate in (base / name, base / name / name):
                if split not in release and (candidate / "annotations").is_dir():
                    release[split] = (candidate / "annotations", candidate / "images")
        if split not in release:
            raise missing_release_error(folder, "second", f"{name}/annotations/ is not in it")
    return release


def _nearby_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folder, its subfolders and its parent: one level of nesting more or less."""
    folder = folder.absolute()
    return [folder, *sorted(path for path in folder.iterdir() if path.is_dir()), folder.parent]


def _find_table(folder: pathlib.Path, name: str, variant: str) -> pathlib.Path:
    for base in _nearby_folders(folder):
        if (base / name).is_file():
            return base / name
    problem = f"{name} is not in it, nor one folder below or above"
    raise missing_release_error(folder, variant, problem)


def _find_images(folder: pathlib.Path, table: pathlib.Path, name: str) -> pathlib.Path:
    """Finds the folder `name*` that contains the most images of the table's first rows."""
    folders = dict.fromkeys(
        [*_nearby_folders(folder), table.parent, *_nearby_folders(table.parent)]
    )
    candidates = [base for base in folders if base.name.startswith(name)]
    for base in folders:
        candidates += sorted(path for path in base.glob(f"{name}*") if path.is_dir())
    probes = [row["subDirectory_filePath"] for row in _read_first_rows(table)]

    def count_images(candidate: pathlib.Path) -> int:
        return sum(os.path.isfile(os.path.join(candidate, probe)) for probe in probes)

    counts = {candidate: count_images(candidate) for candidate in dict.fromkeys(candidates)}
    best = max(counts, key=lambda candidate: counts[candidate], default=None)
    if best is None:
        raise UserError(f"{table}: its images are missing: no folder {name}_Images near {folder}")
    if probes and not counts[best]:
        raise UserError(
            f"{table}: none of its first {len(probes)} images is in {best};"
            f" the first is {probes[0]}"
        )
    return best


def _read_first_rows(table: pathlib.Path) -> list[dict[str, str]]:
    rows = []
    for _, row in _read_checked_rows(table):
        rows.append(row)
        if len(rows) == ROWS_TO_PROBE:
            break
    return rows


def _read_checked_rows(table: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the rows of a CSV (line number, and column -> text) and checks its columns."""
    for line, row in read_csv(table, HEADER):
        missing = [name for name in HEADER if name not in row]
        if missing:
            raise UserError(f"{table}: no column {', '.join(missing)}; it has {', '.join(row)}")
        yield line, row


def _create_csv_source(table: pathlib.Path, images: pathlib.Path) -> SplitSource:
    def rows() -> Iterable[face_images.Row]:
        for line, row in _read_checked_rows(table):
            values = {name: row[name] for name in HEADER[1:]}
            path = row["subDirectory_filePath"]
            yield face_images.Row(line, path, path, values)

    return SplitSource(rows, sum(1 for _ in _read_checked_rows(table)), images)


def _create_npy_source(annotations: pathlib.Path, images: pathlib.Path) -> SplitSource:
    """Creates a source with a row for each number that has an image or an annotation."""
    numbers = {name.split("_")[0] for name in os.listdir(annotations) if name.endswith("_exp.npy")}
    listed = os.listdir(images) if images.is_dir() else []
    files = {os.path.splitext(name)[0]: name for name in listed}
    names = sorted(numbers | set(files), key=lambda name: (len(name), name))

    def rows() -> Iterable[face_images.Row]:
        for index, name in enumerate(names):
            number = int(name) if name.isdecimal() else index
            file = files[name] if name in files else f"{name}.jpg"
            yield face_images.Row(number, file, file, None, os.path.join(annotations, f"{name}_"))

    return SplitSource(rows, len(names), images)


def _hash_file_names(folder: pathlib.Path) -> str:
    """Hashes the file names in a folder; reading a million small files would take minutes."""
    return hashlib.sha256("\n".join(sorted(os.listdir(folder))).encode()).hexdigest()
