"""Layouts: the forms in which people hold datasets of faces.

A layout is a generator of rows, in a file of its own. The decorator `register_layout` makes it a
dataset with the options that all layouts share, and with lists of unusable rows and unused files.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_type_hints

import tabulate

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.core.registry import describe_unknown_name, require_option
from affect_jax.data import (
    DATASETS,
    alignment,
    annotation_parsing,
    beam_pipeline,
    face_images,
)
from affect_jax.data.source_files import Source
from affect_jax.data.tfds_builder import FacesBuilder, FacesConfig, prepare_records
from affect_jax.data.worker_processes import map_ordered, print_line

MAX_LISTED_ROWS = 10  # skipped rows in the error message if there are too many

COUNTED_VALUES = {"valence", "arousal", "facial_landmarks", "AU12", "expression_distribution"}
"""Names in `Row.values` that are counted before preparation."""

SKIPPED_HEADER = ("split", "row", "id", "reason")
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


class LayoutBuilder(FacesBuilder, skip_registration=True):
    """Faces from the image files of a layout, see `register_layout`.

    **Arguments:**

    - `find_rows`: returns an iterator over (split, row) at each call; picklable.
    - `max_skipped`: fraction of a split's rows that may be unusable.
    - `beam`: options of an Apache Beam pipeline that reads the rows instead, see `beam_pipeline`.
    - `options`: those of `FacesBuilder`.
    """

    def __init__(
        self,
        source: Source,
        find_rows: Callable[[], Iterator[tuple[str, face_images.Row]]],
        *,
        max_skipped: float,
        beam: str,
        **options: Any,
    ):
        require_option("data.options.max_skipped", max_skipped, lambda v: 0 <= v <= 1, "in [0, 1]")
        self.name = source.name  # pyright: ignore[reportAttributeAccessIssue]
        self.__doc__ = options["config"].description
        self._source, self._find_rows = source, find_rows
        self._max_skipped, self.beam = max_skipped, beam
        self._skipped: list[tuple[str, int, str, str]] = []
        super().__init__(**options)

    def source_hashes(self) -> dict[str, str]:
        self._find_rows()  # finds the tables
        return self._source.hashes()

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        splits = self._count_labels()
        if not splits:
            raise UserError(f"{self.name}: {self._source.folder} has no faces in this layout")
        self._print_counts(splits)
        self.counts = {s: {"read": splits[s][TOTAL], "skipped": 0} for s in sorted(splits)}
        read = self._read_with_beam if self.beam else self._read
        return {split: read(split) for split in self.counts}

    def _count_labels(self) -> dict[str, collections.Counter[str]]:
        classes = (*self.builder_config.classes, "no class")  # pyright: ignore
        splits: dict[str, collections.Counter[str]] = {}
        for split, row in self._find_rows():
            if isinstance(row.image, str) and not self._source.tables:
                self._source.used.add(row.image)
            name = "in .npy files" if row.annotation_prefix else "unusable"
            if not (row.reason or row.annotation_prefix):
                with contextlib.suppress(annotation_parsing.UnusableInputError):
                    name = classes[annotation_parsing.parse_expression(row.values, classes[:-1])]
            counts = splits.setdefault(split, collections.Counter())
            counts.update([TOTAL, name, *(COUNTED_VALUES & row.values.keys())])
        return splits

    def _print_counts(self, splits: Mapping[str, collections.Counter[str]]) -> None:
        classes = self.builder_config.classes  # pyright: ignore
        class_names = self._source.class_names
        counted = set().union(*splits.values(), class_names.values())
        table = []
        for name in (*classes, "no class", "unusable", "in .npy files", *sorted(COUNTED_VALUES)):
            if name in counted:
                number = classes.index(name) if name in classes else None
                names = ", ".join(text for text, match in class_names.items() if match == name)
                table.append((number, name, names, *(counts[name] for counts in splits.values())))
        table.append((None, "all", "", *(counts[TOTAL] for counts in splits.values())))
        header = ["id", "class", "name in the source", *splits]
        print_line(tabulate.tabulate(table, header, intfmt=","))
        if others := splits.keys() - {*labels.SPLITS, "test"}:
            print_line(
                f"{self.name}: warning: {', '.join(sorted(others))}: neither training nor "
                "validation, so these rows are not used; is the name misspelled?"
            )
        for split in labels.SPLITS:
            if split not in splits:
                print_line(f"{self.name}: has no {split} split")
        for split, counts in splits.items():
            if sentence := compare_counts(counts):
                print_line(f"{self.name}: {split}: {sentence}")

    def _read(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        read_face = functools.partial(face_images.read_face, settings=self._settings())
        total, name = self.counts[split]["read"], f"{self.name}: {split}"
        rows = face_images.make_ids_unique(_select_rows(self._find_rows, split))
        for face in map_ordered(read_face, rows, total, name, self.num_workers):
            if face.record is not None:
                yield face.id, face.record
                continue
            self._skip(split, [(face.number, face.id, face.reason)])
            if self.counts[split]["skipped"] >= MAX_LISTED_ROWS:
                self._check_skipped(split)
        self._check_skipped(split)

    def crop_again(
        self, split: str, ids: Sequence[str], margins: Iterable[float]
    ) -> Iterator[list[dict[str, Any]]]:
        """Yields the records of faces, in the order of `ids`, cropped with each of the margins.

        **Raises:** `UserError` if a source file is missing or a face cannot be cropped.
        """
        wanted = set(ids)
        in_split = face_images.make_ids_unique(_select_rows(self._find_rows, split))
        found = {row.id: row for row in in_split if row.id in wanted}
        if missing := wanted - found.keys():
            raise UserError(f"{self.name}: {min(missing)}: no longer in {self._source.folder}")
        rows = [found[id] for id in ids]
        for margin in margins:
            settings = self._settings()._replace(margin=margin)
            read = functools.partial(face_images.read_face, settings=settings)
            name, records = f"{self.name}: margin {margin:g}", []
            for face in map_ordered(read, rows, len(rows), name, self.num_workers):
                if face.record is None:
                    raise UserError(f"{self.name}: {face.id}: {face.reason}")
                records.append(face.record)
            yield records

    def _read_with_beam(self, split: str) -> Any:
        path = self.data_path / f"{split}.skipped.json"
        rows = functools.partial(_select_rows, self._find_rows, split)
        return beam_pipeline.create_transform(rows, self._settings(), path)

    def _process_pipeline_result(self, pipeline_result: Any) -> None:
        """Counts the rows that a pipeline skipped; `tfds` calls it at the end of the pipeline."""
        for split in self.counts:
            path = self.data_path / f"{split}.skipped.json"
            self._skip(split, sorted(json.loads(path.read_text())))
            path.unlink()
            self._check_skipped(split)

    def _settings(self) -> face_images.Settings:
        config: Any = self.builder_config
        folder = str(self._source.folder)
        return face_images.Settings(
            folder,
            config.image_size,
            config.margin,
            config.classes,
            config.extra_features,
            config.align,
        )

    def _skip(self, split: str, rows: Sequence[Sequence[Any]]) -> None:
        self.counts[split]["skipped"] += len(rows)
        self._skipped += [(split, number, name, reason) for number, name, reason in rows]

    def _check_skipped(self, split: str) -> None:
        """**Raises:** `UserError` if too many rows of a split are skipped, or all of them."""
        total, skipped = self.counts[split]["read"], self.counts[split]["skipped"]
        if skipped > self._max_skipped * total or skipped == total:
            path = self.data_path.with_name("refused.csv")  # outside of the unfinished folder
            _write_csv(path, SKIPPED_HEADER, self._skipped)
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
        _write_csv(self.data_path / "skipped.csv", SKIPPED_HEADER, self._skipped)
        self.data_path.with_name("refused.csv").unlink(missing_ok=True)  # of an earlier attempt
        if not self._source.tables:
            unused = self._source.find_unused()
            _write_csv(self.data_path / "unused.csv", ("file", "reason"), unused)
            for reason, count in collections.Counter(reason for _, reason in unused).items():
                print_line(f"{self.name}: not used: {count:,}: {reason}; see unused.csv")

    def _log_download_done(self) -> None:
        super()._log_download_done()
        reasons = collections.Counter(reason.split(":")[0] for *_, reason in self._skipped)
        for reason, count in reasons.most_common():
            print_line(f"{self.name}: skipped {count:,}: {reason}")
        if self._skipped:
            print_line(f"{self.name}: every skipped row is in {self.data_path / 'skipped.csv'}")


def _select_rows(find_rows: Callable, split: str) -> Iterator[face_images.Row]:
    return (row for name, row in find_rows() if name == split)


def _write_csv(path: Any, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


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


def register_layout(
    name: str,
    *,
    extra_features: Sequence[str] = (),
    folder_name: Callable[..., str] | None = None,
) -> Callable:
    """Returns a decorator that registers a layout as a dataset.

    The layout is a function of a `Source` and of keyword arguments, its options. It returns an
    iterator over (split, row). The dataset also has the options `manual_dir` (the folder),
    `data_dir`, `image_size`, `margin`, `align`, `max_skipped`, `num_workers` and `beam`, see
    `data.affectnet`.

    **Arguments:**

    - `extra_features`: see `tfds_builder.face_features`.
    - `folder_name`: function of the image size, the margin and the options that returns the name of
      the folder of the records; by default the image size and a hash of the others and the folder.
    """

    def decorator(find_rows: Callable[..., Any]) -> Callable[..., LayoutBuilder]:
        def create(
            *,
            manual_dir: str = "",
            data_dir: str = "data",
            image_size: int = 256,
            margin: float = 0.0,
            align: str = "box",
            max_skipped: float = 0.01,
            num_workers: int | None = None,
            beam: str = "",
            **options: Any,
        ) -> LayoutBuilder:
            if align not in alignment.ALIGNMENTS:
                choices = describe_unknown_name(align, alignment.ALIGNMENTS)
                raise UserError(f"data.options.align = {choices}")
            source = Source(name, manual_dir, data_dir)
            classes = labels.dataset_classes(name, options)
            if len(set(classes)) < len(classes):
                raise UserError(f"{name}: classes = {list(classes)}: a name occurs twice")
            if folder_name:
                variant = folder_name(image_size, margin, **options)
            else:
                text = json.dumps([margin, str(source.folder), options], sort_keys=True)
                variant = f"{image_size}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
            variant += "_eyes" if align == "eyes" else ""
            config = FacesConfig(
                name=variant,
                description=find_rows.__doc__,
                image_size=image_size,
                classes=classes,
                margin=margin,
                extra_features=extra_features,
                align=align,
            )
            limits = {"max_skipped": max_skipped, "num_workers": num_workers, "beam": beam}
            rows = functools.partial(find_rows, source, **options)
            builder = LayoutBuilder(source, rows, config=config, data_dir=data_dir, **limits)
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
