"""Base class of datasets made from image files: reads rows, and lists and limits unusable ones."""

from __future__ import annotations

import collections
import contextlib
import csv
import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tabulate

from affect_jax.core import labels
from affect_jax.core.errors import UserError, first_line
from affect_jax.core.registry import require_option
from affect_jax.data import annotation_parsing, beam_pipeline, face_images
from affect_jax.data.tfds_builder import FacesBuilder
from affect_jax.data.worker_processes import map_ordered, print_line

MAX_LISTED_ROWS = 10  # skipped rows in the error message if there are too many

COUNTED_VALUES = {"valence", "arousal", "facial_landmarks", "AU12", "expression_distribution"}
"""Names in `Row.values` that are counted before preparation."""

TOTAL = ""  # key of the number of rows, which is the name of no class

KNOWN_COUNTS = {
    "AffectNet": (labels.TRAINING_COUNTS, labels.TRAINING_COUNTS[:7]),
    "FER2013": (
        (4965, 7215, 4830, 3171, 4097, 436, 3995),
        (607, 895, 653, 415, 496, 56, 467),
        (626, 879, 594, 416, 528, 55, 491),
        (1233, 1774, 1247, 831, 1024, 111, 958),  # both tests in one folder
    ),
    "RAF-DB": ((2524, 4772, 1982, 1290, 281, 717, 705), (680, 1185, 478, 329, 74, 160, 162)),
}
"""Dataset -> faces of each class of its splits, in the order of `labels.EXPRESSIONS`."""


class SplitSource(NamedTuple):
    """Rows of a split, and the folder of their images.

    - `rows`: returns a new iterable over the rows at each call.
    """

    rows: Callable[[], Iterable[face_images.Row]]
    folder: pathlib.Path


class ImageFilesBuilder(FacesBuilder, skip_registration=True):
    """Faces from image files. A subclass sets `folder` and `find_rows`.

    **Arguments:**

    - `max_skipped`: fraction of a split's rows that may be unusable.
    - `beam`: options of an Apache Beam pipeline that reads the rows instead, see `beam_pipeline`.
    - `options`: those of `FacesBuilder`.
    """

    folder: pathlib.Path  # of the images
    find_rows: Callable[[], Iterable[tuple[str, face_images.Row]]]  # of all splits; picklable

    def __init__(self, *, max_skipped: float = 0.01, beam: str = "", **options: Any):
        require_option("data.options.max_skipped", max_skipped, lambda v: 0 <= v <= 1, "in [0, 1]")
        self._max_skipped, self.beam = max_skipped, beam
        self._skipped: list[tuple[str, int, str, str]] = []
        self.class_names: Mapping[str, str] = {}  # name in the source -> name of the class
        self.class_counts: dict[str, collections.Counter[str]] = {}  # of each split
        super().__init__(**options)

    def sources(self) -> dict[str, SplitSource]:
        """Returns the rows of each split, after all were counted."""
        return {
            split: SplitSource(functools.partial(_select_rows, self.find_rows, split), self.folder)
            for split in sorted(self.class_counts)
        }

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        self._count_labels()
        if not self.class_counts:
            raise UserError(f"{self.name}: {self.folder} has no faces in this layout")
        sources = self.sources()
        for split in sources:
            if split not in self.class_counts:
                raise UserError(f"{self.name}: {split} has no rows")
            self.counts[split] = {"read": self.class_counts[split][TOTAL], "skipped": 0}
        self._print_counts()
        read = self._read_with_beam if self.beam else self._read
        return {split: read(split, source) for split, source in sources.items()}

    def _count_labels(self) -> None:
        classes = (*self.builder_config.classes, "no class")  # pyright: ignore
        for split, row in self.find_rows():
            name = "in .npy files" if row.annotation_prefix else "unusable"
            if not (row.reason or row.annotation_prefix):
                with contextlib.suppress(annotation_parsing.UnusableInputError):
                    name = classes[annotation_parsing.parse_expression(row.values, classes[:-1])]
            counts = self.class_counts.setdefault(split, collections.Counter())
            counts.update([TOTAL, name, *(COUNTED_VALUES & row.values.keys())])

    def _print_counts(self) -> None:
        classes = self.builder_config.classes  # pyright: ignore
        splits, table = self.class_counts, []
        counted = set().union(*splits.values(), self.class_names.values())
        for name in (*classes, "no class", "unusable", "in .npy files", *sorted(COUNTED_VALUES)):
            if name in counted:
                number = classes.index(name) if name in classes else None
                source = [text for text, match in self.class_names.items() if match == name]
                table.append((number, name, ", ".join(source), *(splits[s][name] for s in splits)))
        table.append((None, "all", "", *(counts[TOTAL] for counts in splits.values())))
        header = ["id", "class", "name in the source", *splits]
        print_line(tabulate.tabulate(table, header, intfmt=","))
        if others := splits.keys() - {*labels.SPLITS, "test"}:
            print_line(
                f"{self.name}: warning: {', '.join(sorted(others))}: neither training nor "
                "validation, so these rows are not used; is the name misspelled?"
            )
        for split, counts in splits.items():
            if sentence := compare_counts(counts):
                print_line(f"{self.name}: {split}: {sentence}")

    def _read(self, split: str, source: SplitSource) -> Iterator[tuple[str, dict[str, Any]]]:
        read_face = functools.partial(face_images.read_face, settings=self._settings(source))
        total, name = self.counts[split]["read"], f"{self.name}: {split}"
        rows = face_images.make_ids_unique(source.rows())
        for face in map_ordered(read_face, rows, total, name, self.num_workers):
            if face.record is not None:
                yield face.id, face.record
                continue
            self._skip(split, [(face.number, face.id, face.reason)])
            if self.counts[split]["skipped"] >= MAX_LISTED_ROWS:
                self._check_skipped(split)
        self._check_skipped(split)

    def _read_with_beam(self, split: str, source: SplitSource) -> Any:
        path = self.data_path / f"{split}.skipped.json"
        return beam_pipeline.create_transform(source.rows, self._settings(source), path)

    def _process_pipeline_result(self, pipeline_result: Any) -> None:
        """Counts the rows that a pipeline skipped; `tfds` calls it at the end of the pipeline."""
        for split in self.counts:
            path = self.data_path / f"{split}.skipped.json"
            self._skip(split, sorted(json.loads(path.read_text())))
            path.unlink()
            self._check_skipped(split)

    def _settings(self, source: SplitSource) -> face_images.Settings:
        config: Any = self.builder_config
        return face_images.Settings(
            os.path.realpath(source.folder),
            config.image_size,
            config.margin,
            config.classes,
            config.unit_scale,
            config.extra_features,
        )

    def _skip(self, split: str, rows: Sequence[Sequence[Any]]) -> None:
        self.counts[split]["skipped"] += len(rows)
        self._skipped += [(split, number, name, reason) for number, name, reason in rows]

    def _check_skipped(self, split: str) -> None:
        """**Raises:** `UserError` if too many rows of a split are skipped, or all of them."""
        total, skipped = self.counts[split]["read"], self.counts[split]["skipped"]
        if skipped > self._max_skipped * total or skipped == total:
            path = self.data_path.with_name("refused.csv")  # outside of the unfinished folder
            write_skipped(path, self._skipped)
            raise UserError(
                f"{self.name}: {split}: {skipped:,} of {total:,} rows, or more, cannot be used, and"
                f" max_skipped = {self._max_skipped:g}; nothing was prepared. They are listed in"
                f" {path}; the first are",
                [
                    f"{name}, row {row}: {identifier}: {reason}"
                    for name, row, identifier, reason in self._skipped[:MAX_LISTED_ROWS]
                ],
            )

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        super()._download_and_prepare(dl_manager, download_config)
        write_skipped(self.data_path / "skipped.csv", self._skipped)
        self.data_path.with_name("refused.csv").unlink(missing_ok=True)  # of an earlier attempt

    def _log_download_done(self) -> None:
        super()._log_download_done()
        reasons = collections.Counter(reason.split(":")[0] for *_, reason in self._skipped)
        for reason, count in reasons.most_common():
            print_line(f"{self.name}: skipped {count:,}: {reason}")
        if self._skipped:
            print_line(f"{self.name}: every skipped row is in {self.data_path / 'skipped.csv'}")


def _select_rows(find_rows: Callable, split: str) -> Iterator[face_images.Row]:
    return (row for name, row in find_rows() if name == split)


def compare_counts(counts: Mapping[str, int]) -> str:
    """Returns a sentence if the counts of a split are those of a known dataset; else empty."""
    present = {name: counts[name] for name in labels.EXPRESSIONS[:8] if counts.get(name)}
    for dataset, splits in KNOWN_COUNTS.items():
        for known in splits:
            if sorted(present.values()) == sorted(known):
                for name, count in zip(labels.EXPRESSIONS, known, strict=False):
                    if present.get(name) != count:
                        return (
                            f"WARNING: these are {dataset}'s counts in another order: there, the"
                            f" {count:,} faces are {name}; check the names of the classes"
                        )
                return f"these are {dataset}'s counts"
    return ""


def write_skipped(path: Any, skipped: Sequence[tuple[str, int, str, str]]) -> None:
    """Writes `skipped.csv`: one line per unusable row, with the reason."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("split", "row", "id", "reason"), *skipped])


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
