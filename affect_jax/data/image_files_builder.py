"""Base class of datasets made from image files: reads rows, and lists and limits unusable ones."""

from __future__ import annotations

import collections
import csv
import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from affect_jax.core.errors import UserError
from affect_jax.data import beam_pipeline, face_images
from affect_jax.data.tfds_builder import FacesBuilder, FacesConfig
from affect_jax.data.worker_processes import map_ordered, num_cores, print_line, show_progress

MAX_LISTED_ROWS = 10  # skipped rows in the error message if there are too many
MIN_ROWS_FOR_WORKERS = 400
"""With fewer rows, starting worker processes takes longer than reading the rows."""


@dataclasses.dataclass(frozen=True)
class SplitSource:
    """Rows of a split, and the folder of their images.

    **Arguments:**

    - `rows`: returns a new iterable over the rows at each call.
    - `total`: number of rows.
    """

    rows: Callable[[], Iterable[face_images.Row]]
    total: int
    folder: pathlib.Path

    def unique_rows(self) -> Iterator[face_images.Row]:
        """The rows with valid UTF-8 and unique ids: the second `a.jpg` becomes `a.jpg#2`."""
        return make_ids_unique(self.rows())


class ImageFilesBuilder(FacesBuilder, skip_registration=True):
    """Faces from image files. A subclass implements `sources`: split -> `SplitSource`.

    **Arguments:**

    - `max_skipped`: fraction of a split's rows that may be unusable.
    - `num_workers`: worker processes; None: one per core. The records do not depend on it.
    - `beam`: options of an Apache Beam pipeline that reads the rows instead, see `beam_pipeline`.
    """

    def __init__(
        self,
        *,
        config: FacesConfig,
        data_dir: str | os.PathLike,
        max_skipped: float = 0.01,
        num_workers: int | None = None,
        beam: str = "",
    ):
        for name, value, is_valid, requirement in (
            ("max_skipped", max_skipped, 0 <= max_skipped <= 1, "in [0, 1]"),
            ("num_workers", num_workers, num_workers is None or num_workers >= 1, "1 or more"),
            ("margin", config.margin, 0 <= config.margin <= 10, "in [0, 10]"),
        ):
            if not is_valid:
                raise UserError(f"data.options.{name} = {value!r}: must be {requirement}")
        self._max_skipped = max_skipped
        self._num_workers = num_workers
        self.beam = beam
        self._skipped: list[tuple[str, int, str, str]] = []
        super().__init__(config=config, data_dir=data_dir)

    def sources(self) -> dict[str, SplitSource]:
        """Returns the rows of each split."""
        raise NotImplementedError

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        sources = self.sources()
        for split, source in sources.items():
            if not source.total:
                raise UserError(f"{self.name}: {split} has no rows")
            self.counts[split] = {"read": source.total if self.beam else 0, "skipped": 0}
        read = self._read_with_beam if self.beam else self._read
        return {split: read(split, source) for split, source in sources.items()}

    def _read(self, split: str, source: SplitSource) -> Iterator[tuple[str, dict[str, Any]]]:
        faces = map_ordered(
            functools.partial(face_images.read_faces, settings=self._settings(source)),
            source.unique_rows(),
            num_workers=self._num_workers
            or (1 if source.total < MIN_ROWS_FOR_WORKERS else num_cores()),
        )
        counts = self.counts[split]
        for face in show_progress(faces, source.total, f"{self.name}: {split}"):
            counts["read"] += 1
            if face.record is not None:
                yield face.id, face.record
                continue
            self._skip(split, [(face.number, face.id, face.reason)])
            if counts["skipped"] >= MAX_LISTED_ROWS:
                self._check_skipped(split, source.total)
        self._check_skipped(split, source.total)

    def _read_with_beam(self, split: str, source: SplitSource) -> Any:
        skipped_path = self._beam_skipped_path(split)
        settings = self._settings(source)
        return beam_pipeline.create_transform(source.unique_rows, settings, skipped_path)

    def _process_pipeline_result(self, pipeline_result: Any) -> None:
        """Counts the rows that a pipeline skipped; `tfds` calls it at the end of the pipeline."""
        for split, counts in self.counts.items():
            path = self._beam_skipped_path(split)
            self._skip(split, sorted(json.loads(path.read_text())))
            path.unlink()
            self._check_skipped(split, counts["read"])

    def _beam_skipped_path(self, split: str) -> Any:
        return self.data_path / f"{split}.skipped.json"

    def _settings(self, source: SplitSource) -> face_images.Settings:
        config: Any = self.builder_config
        return face_images.Settings(
            os.path.realpath(source.folder),
            config.image_size,
            config.margin,
            config.classes,
            config.unit_scale,
        )

    def _skip(self, split: str, rows: Sequence[Sequence[Any]]) -> None:
        """Counts and lists skipped rows: number, id and reason of each."""
        self.counts[split]["skipped"] += len(rows)
        self._skipped += [(split, number, name, reason) for number, name, reason in rows]

    def _check_skipped(self, split: str, total: int) -> None:
        """**Raises:** `UserError` if too many of the `total` rows of a split are skipped."""
        read, skipped = self.counts[split]["read"], self.counts[split]["skipped"]
        if skipped > self._max_skipped * total:
            path = self.data_path.with_name("refused.csv")  # outside of the unfinished folder
            write_skipped(path, self._skipped)
            raise UserError(
                f"{self.name}: {split}: {skipped:,} of the first {read:,} rows (of {total:,})"
                f" cannot be used, more than max_skipped = {self._max_skipped:g} of all;"
                f" nothing was prepared. They are listed in {path}; the first are",
                [
                    f"{name}, row {row}: {identifier}: {reason}"
                    for name, row, identifier, reason in self._skipped[:MAX_LISTED_ROWS]
                ],
            )
        if skipped == total:
            raise UserError(f"{self.name}: {split}: none of {total:,} rows can be used")

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        try:
            super()._download_and_prepare(dl_manager, download_config)
        except Exception as error:
            if not self.beam or isinstance(error, UserError):
                raise
            reason = str(error).strip().rpartition("\n")[2]  # the rest is the worker's traceback
            raise UserError(
                f"data.options.beam: the pipeline failed ({reason}); nothing was prepared: "
                "without data.options.beam, the error names unusable rows"
            ) from error
        write_skipped(self.data_path / "skipped.csv", self._skipped)

    def _log_download_done(self) -> None:
        super()._log_download_done()
        reasons = collections.Counter(skipped[3].split(":")[0] for skipped in self._skipped)
        for reason, count in reasons.most_common():
            print_line(f"{self.name}: skipped {count:,}: {reason}")
        if self._skipped:
            print_line(f"{self.name}: every skipped row is in {self.data_path / 'skipped.csv'}")


def write_skipped(path: Any, skipped: Sequence[tuple[str, int, str, str]]) -> None:
    """Writes `skipped.csv`: one line per unusable row, with the reason."""
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("split", "row", "id", "reason"), *skipped])


def make_ids_unique(rows: Iterable[face_images.Row]) -> Iterator[face_images.Row]:
    """Makes the ids valid UTF-8 and unique: the second `a.jpg` becomes `a.jpg#2`."""
    counts: collections.Counter[str] = collections.Counter()
    for row in rows:
        name = row.id.encode("utf-8", "backslashreplace").decode()
        counts[name] += 1
        while counts[name] > 1:
            name = f"{name}#{counts[name]}"
            counts[name] += 1
        yield row._replace(id=name)


def read_csv(
    path: pathlib.Path, columns: Iterable[str] = (), *, header: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the rows of a CSV file: line number, and column -> text.

    If a row has fewer fields than the header, the remaining texts are empty.

    **Arguments:**

    - `columns`: the columns that the file must have.
    - `header`: the columns of a file whose header may be missing. The header is missing if the
      first line has this number of fields and the second field is a number.

    **Raises:** `UserError` if the file is not a valid CSV file or lacks a column.
    """
    try:
        # File names need not be UTF-8: "surrogateescape" preserves their bytes.
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = csv.reader(file, strict=True)
            names = next(lines, None)
            if names is None:
                raise UserError(f"{path}: the file is empty")
            if header and len(names) == len(header) and _is_number(names[1]):
                yield lines.line_num, dict(zip(header, names, strict=True))
                names = list(header)
            if missing := [name for name in columns if name not in names]:
                raise UserError(
                    f"{path}: no column {', '.join(missing)}; it has {', '.join(names)}"
                )
            for fields in lines:
                if fields:
                    fields += [""] * (len(names) - len(fields))
                    yield lines.line_num, dict(zip(names, fields, strict=False))
    except csv.Error as error:
        raise UserError(f"{path}, line {lines.line_num}: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
