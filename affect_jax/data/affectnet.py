"""AffectNet, in the layouts of its first and second release.

Mollahosseini, Hasani and Mahoor, "AffectNet", IEEE Transactions on Affective Computing, 2017. The
data need a licence from the authors; this module reads what they sent.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from affect_jax.core.errors import UserError
from affect_jax.core.registry import unknown
from affect_jax.data import DATASETS, face_images, label_parsing
from affect_jax.data.builder import prepare_records
from affect_jax.data.file_builder import FilesBuilder, FilesConfig, Source, file_hash, read_csv
from affect_jax.data.worker_processes import say

HEADER = (
    "subDirectory_filePath",
    *label_parsing.BOX,
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
    name: FilesConfig(name=f"{name}_256", description=text) for name, text in VARIANTS.items()
}
ROWS_TO_PROBE = 100


class AffectNet(FilesBuilder):
    """Faces from the web with expression, valence, arousal and 68 landmarks.

    Every row is kept, also the expressions "none", "uncertain" and "non-face"; the batch masks
    them. The face is the annotated box, clipped at the image's border. Boxes and landmarks are
    pixels of the stored image: a photograph's EXIF rotation is ignored, as by the tools that made
    them. The second release's images are the faces already, and its landmarks are pixels of these.

    The automatic set has a training split only; where the manual set's validation.csv and images
    lie beside it they are its `validation`.

    **Arguments:**

    - `manual_dir`: the folder with the release, one level of nesting more or less.
    - `images`: False where only labels are read: the photographs need not be there.
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
    def _found(self) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
        """Split -> its table (a CSV, or a folder of .npy files) and its folder of images."""
        if self._folder is None or not self._folder.is_dir():
            raise no_release(self._folder, self._variant, "no such folder")
        if self._variant == "second":
            return find_second_release(self._folder)
        return find_first_release(self._folder, self._variant, images=self._images)

    def check_source(self) -> None:
        _ = self._found  # finds the files, or says what to do

    def source(self) -> dict[str, str]:
        try:
            found = self._found
        except UserError:  # prepared records are enough, the release may be gone
            return {}
        if self._variant == "second":
            return {
                f"{name}: {table.name}": _names_hash(table) for name, (table, _) in found.items()
            }
        return {table.name: file_hash(table) for table, _ in found.values()}

    def sources(self) -> dict[str, Source]:
        make = _source_of_arrays if self._variant == "second" else _source_of_csv
        return {split: make(table, images) for split, (table, images) in self._found.items()}


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
) -> FilesBuilder:
    """AffectNet from a release on disk, prepared once.

    **Arguments:**

    - `manual_dir`: folder of the release; not needed once the records are there.
    - `data_dir`: where the records are written, in a folder of their own.
    - `variant`: `manual`, `automatic` or `second`, see `VARIANTS`.
    - `image_size`: side of the stored faces, pixels.
    - `margin`: share of the box's width and height added on each of its sides.
    - `max_skipped`: share of a split's rows that may be unusable; each is listed in `skipped.csv`.
    - `num_workers`: processes that read images; None: one a core.
    - `beam`: options of an Apache Beam pipeline that reads them instead, on this machine or on
      many: `--runner=FlinkRunner --flink_master=...`; the records are the same.

    **Raises:** `UserError` without a release, for too many unusable rows, and for records that
    were made from another release.
    """
    if variant not in VARIANTS:
        raise UserError(f"affectnet: variant {unknown(variant, VARIANTS)}")
    config = CONFIGS[variant]
    if image_size != config.image_size or margin:
        name = f"{variant}_{image_size}" + (f"_margin_{margin:g}" if margin else "")
        config = FilesConfig(
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


def no_release(folder: pathlib.Path | None, variant: str, what: str) -> UserError:
    """What a user without the data has to know."""
    where = f"{folder}: {what}" if folder else "data.manual_dir is empty"
    if variant == "second":
        layout = "train_set/ and val_set/, each with images/ and annotations/"
    elif variant == "automatic":
        layout = "automatically_annotated.csv and Automatically_Annotated_Images/"
    else:
        layout = "training.csv, validation.csv and Manually_Annotated_Images/"
    return UserError(
        f"AffectNet is not there ({where})",
        [
            "AffectNet is a data set of a million faces from the web, 440,000 of them annotated by"
            " hand with expression, valence and arousal (Mollahosseini et al. 2017).",
            "It needs a licence from its authors (University of Denver):"
            " http://mohammadmahoor.com/affectnet/",
            f"Put {layout} into one folder and name it:"
            " --config.data.manual_dir=/path/to/AffectNet",
            "Rendered faces need no licence and run now: python -m affect_jax.main"
            " --config=configs/alexnet_weighted.py:synthetic_faces",
        ],
    )


def find_first_release(
    folder: pathlib.Path, variant: str, *, images: bool = True
) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
    """The tables and image folders of the first release, wherever its archives were unpacked.

    **Arguments:**

    - `images`: False: the folders are not looked for, the tables' own stand in their place.
    """

    def place(table: pathlib.Path, name: str) -> pathlib.Path:
        return _find_images(folder, table, name) if images else table.parent

    if variant == "automatic":
        table = _find_table(folder, "automatically_annotated.csv", variant)
        found = {"training": (table, place(table, "Automatically_Annotated"))}
        try:
            table = _find_table(folder, "validation.csv", variant)
            found["validation"] = (table, place(table, "Manually_Annotated"))
        except UserError as error:
            missing = str(error).splitlines()[0]
            say(f"affectnet: the automatic set stays without a validation split: {missing}")
        return found
    found = {}
    for split in ("training", "validation"):
        table = _find_table(folder, f"{split}.csv", variant)
        found[split] = (table, place(table, "Manually_Annotated"))
    return found


def find_second_release(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
    """The `annotations/` and `images/` folders of the second release."""
    found = {}
    for split, name in (("training", "train_set"), ("validation", "val_set")):
        for base in _around(folder):
            for place in (base / name, base / name / name):
                if split not in found and (place / "annotations").is_dir():
                    found[split] = (place / "annotations", place / "images")
        if split not in found:
            raise no_release(folder, "second", f"{name}/annotations/ is not in it")
    return found


def _around(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folder, the folders in it, and the one above: one level of nesting more or less."""
    folder = folder.absolute()
    return [folder, *sorted(path for path in folder.iterdir() if path.is_dir()), folder.parent]


def _find_table(folder: pathlib.Path, name: str, variant: str) -> pathlib.Path:
    for base in _around(folder):
        if (base / name).is_file():
            return base / name
    raise no_release(folder, variant, f"{name} is not in it, nor one folder below or above")


def _find_images(folder: pathlib.Path, table: pathlib.Path, name: str) -> pathlib.Path:
    """Of the folders `name*`, the one that holds the images that the table's first rows name."""
    bases = dict.fromkeys([*_around(folder), table.parent, *_around(table.parent)])
    places = [base for base in bases if base.name.startswith(name)]
    for base in bases:
        places += sorted(path for path in base.glob(f"{name}*") if path.is_dir())
    probes = [row["subDirectory_filePath"] for row in _probe(table)]

    def hits(place: pathlib.Path) -> int:
        return sum(os.path.isfile(os.path.join(place, probe)) for probe in probes)

    counts = {place: hits(place) for place in dict.fromkeys(places)}
    best = max(counts, key=lambda place: counts[place], default=None)
    if best is None:
        raise UserError(f"{table}: its images are not there: no folder {name}_Images near {folder}")
    if probes and not counts[best]:
        raise UserError(
            f"{table}: none of its first {len(probes)} images is in {best};"
            f" the first is {probes[0]}"
        )
    return best


def _probe(table: pathlib.Path) -> list[dict[str, str]]:
    rows = []
    for _, row in _checked_rows(table):
        rows.append(row)
        if len(rows) == ROWS_TO_PROBE:
            break
    return rows


def _checked_rows(table: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The CSV's rows; its header is checked with the first."""
    for line, row in read_csv(table, HEADER):
        missing = [name for name in HEADER if name not in row]
        if missing:
            raise UserError(f"{table}: no column {', '.join(missing)}; it has {', '.join(row)}")
        yield line, row


def _source_of_csv(table: pathlib.Path, images: pathlib.Path) -> Source:
    def rows() -> Iterable[face_images.Row]:
        for line, row in _checked_rows(table):
            values = {name: row[name] for name in HEADER[1:]}
            path = row["subDirectory_filePath"]
            yield face_images.Row(line, path, path, values)

    return Source(rows, sum(1 for _ in _checked_rows(table)), images)


def _source_of_arrays(annotations: pathlib.Path, images: pathlib.Path) -> Source:
    """A row for every number that has an image or an annotation."""
    numbers = {name.split("_")[0] for name in os.listdir(annotations) if name.endswith("_exp.npy")}
    listed = os.listdir(images) if images.is_dir() else []
    files = {os.path.splitext(name)[0]: name for name in listed}
    names = sorted(numbers | set(files), key=lambda name: (len(name), name))

    def rows() -> Iterable[face_images.Row]:
        for place, name in enumerate(names):
            number = int(name) if name.isdecimal() else place
            file = files[name] if name in files else f"{name}.jpg"
            yield face_images.Row(number, file, file, None, os.path.join(annotations, f"{name}_"))

    return Source(rows, len(names), images)


def _names_hash(folder: pathlib.Path) -> str:
    """Of the names of its files: reading a million small ones at each start would take minutes."""
    return hashlib.sha256("\n".join(sorted(os.listdir(folder))).encode()).hexdigest()
