"""Base class of datasets made from image files: reads rows, and lists and limits unusable ones."""

from __future__ import annotations

import collections
import csv
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from affect_jax.core.errors import UserError
from affect_jax.data import beam_pipeline, face_images
from affect_jax.data.tfds_builder import FacesBuilder, FacesConfig, make_record
from affect_jax.data.worker_processes import map_ordered, num_cores, print_line, show_progress

MAX_LISTED_ROWS = 10  # skipped rows in the error message if there are too many
MIN_ROWS_FOR_WORKERS = 400
"""With fewer rows, starting worker processes takes longer than reading the rows."""


@dataclasses.dataclass(eq=False)
class ImageFilesConfig(FacesConfig):
    """A dataset made from image files.

    **Arguments:**

    - `margin`: fraction of the annotated box that is added on each side before cropping.
    - `unit_scale`: maximum intensity of an action unit in the source.
    """

    margin: float = 0.0
    unit_scale: float = 1.0


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
        config: ImageFilesConfig,
        data_dir: str | os.PathLike,
        max_skipped: float = 0.01,
        num_workers: int | None = None,
        beam: str = "",
    ):
        _check_option("max_skipped", max_skipped, 0 <= max_skipped <= 1, "in [0, 1]")
        _check_option(
            "num_workers", num_workers, num_workers is None or num_workers >= 1, "1 or more"
        )
        _check_option("margin", config.margin, 0 <= config.margin <= 10, "in [0, 10]")
        self._max_skipped = max_skipped
        self._num_workers = num_workers
        self._beam = beam
        self._skipped: list[tuple[str, int, str, str]] = []
        super().__init__(config=config, data_dir=data_dir)

    def sources(self) -> dict[str, SplitSource]:
        """Returns the rows of each split."""
        raise NotImplementedError

    def _split_generators(self, dl_manager: Any) -> Any:
        sources = self.sources()
        for name, source in sources.items():
            if not source.total:
                raise UserError(f"{self.name}: {name} has no rows")
        create_examples = self._pipeline if self._beam else self._examples
        return {name: create_examples(name, source) for name, source in sources.items()}

    def beam_options(self) -> Any:
        return beam_pipeline.parse_options(self._beam) if self._beam else None

    def _pipeline(self, split: str, source: SplitSource) -> Any:
        self.counts[split] = {"read": source.total, "skipped": 0}
        rows = functools.partial(_unique_rows, source)
        settings, skipped_path = self._settings(source), self._skipped_path(split)
        return beam_pipeline.create_transform(rows, settings, to_example, skipped_path)

    def _skipped_path(self, split: str) -> Any:
        """The file in which a pipeline's workers list the rows that they skipped."""
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

    def update_counts(self) -> None:
        if not self._beam:
            return
        for split, counts in self.counts.items():
            skipped = json.loads(self._skipped_path(split).read_text())
            self._skipped_path(split).unlink()
            counts["skipped"] = len(skipped)
            self._skipped += sorted(
                (split, number, identifier, reason) for number, identifier, reason in skipped
            )
            if len(skipped) > self._max_skipped * counts["read"]:
                self._raise_too_many_skipped(split, counts, counts["read"])

    def _examples(self, split: str, source: SplitSource) -> Iterator[tuple[str, dict[str, Any]]]:
        faces = map_ordered(
            functools.partial(face_images.read_faces, settings=self._settings(source)),
            make_ids_unique(source.rows()),
            num_workers=self._num_workers
            or (1 if source.total < MIN_ROWS_FOR_WORKERS else num_cores()),
        )
        counts = self.counts[split] = {"read": 0, "skipped": 0}
        for face in show_progress(faces, source.total, f"{self.name}: {split}", counts):
            counts["read"] += 1
            if face.reason:
                counts["skipped"] += 1
                self._skipped.append((split, face.number, face.id, face.reason))
                too_many = counts["skipped"] > self._max_skipped * source.total
                if too_many and counts["skipped"] >= MAX_LISTED_ROWS:
                    self._raise_too_many_skipped(split, counts, source.total)
                continue
            yield to_example(face)
        if counts["skipped"] > self._max_skipped * source.total:
            self._raise_too_many_skipped(split, counts, source.total)
        if counts["read"] == counts["skipped"]:
            raise UserError(f"{self.name}: {split}: none of {counts['read']:,} rows can be used")

    def _raise_too_many_skipped(self, split: str, counts: dict[str, int], total: int) -> None:
        path = pathlib.Path(self.data_path_final).with_name("refused.csv")
        write_skipped(path, self._skipped)
        lines = [
            f"{name}, row {row}: {identifier}: {reason}"
            for name, row, identifier, reason in self._skipped
        ]
        raise UserError(
            f"{self.name}: {split}: {counts['skipped']:,} of the first {counts['read']:,} rows (of"
            f" {total:,}) cannot be used, more than max_skipped = {self._max_skipped:g} of all;"
            f" nothing was prepared. They are listed in {path}; the first are",
            lines[:MAX_LISTED_ROWS],
        )

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        try:
            super()._download_and_prepare(dl_manager, download_config)
        except Exception as error:
            # For a split without records, the error of tfds lacks the reason.
            if self._beam and "generated examples is 0" in str(error):
                for split, source in self.sources().items():
                    next(self._examples(split, source))  # raises an error with the reason
            raise
        write_skipped(self.data_path / "skipped.csv", self._skipped)

    def _log_download_done(self) -> None:
        super()._log_download_done()
        reasons = collections.Counter(skipped[3].split(":")[0] for skipped in self._skipped)
        for reason, count in reasons.most_common():
            print_line(f"{self.name}: skipped {count:,}: {reason}")
        if self._skipped:
            print_line(f"{self.name}: every skipped row is in {self.data_path / 'skipped.csv'}")


def _check_option(name: str, value: Any, is_valid: bool, requirement: str) -> None:
    if not is_valid:
        raise UserError(f"data.options.{name} = {value!r}: must be {requirement}")


def to_example(face: face_images.Face) -> tuple[str, dict[str, Any]]:
    """Converts a face that has an image to the (id, record) that `tfds` writes."""
    return (
        face.id,
        make_record(
            face.id,
            face.image,
            face.expression,
            box=face.box,
            valence=face.valence,
            arousal=face.arousal,
            landmarks=face.landmarks,
            aspect=face.aspect,
            action_units=face.action_units,
        ),
    )


def _unique_rows(source: SplitSource) -> Iterator[face_images.Row]:
    return make_ids_unique(source.rows())


def write_skipped(path: Any, skipped: Sequence[tuple[str, int, str, str]]) -> None:
    """Writes `skipped.csv`: one line per unusable row, with the reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("split", "row", "id", "reason"))
    writer.writerows(skipped)
    path.write_bytes(text.getvalue().encode("utf-8", "backslashreplace"))


def make_ids_unique(rows: Iterable[face_images.Row]) -> Iterator[face_images.Row]:
    """Makes the ids valid UTF-8 and unique: the second `a.jpg` becomes `a.jpg#2`."""
    counts: collections.Counter[str] = collections.Counter()
    for row in rows:
        name = row.id.encode("utf-8", "backslashreplace").decode()
        while (count := counts.update([name]) or counts[name]) > 1:
            name = f"{name}#{count}"
        yield row._replace(id=name)


def read_csv(
    path: pathlib.Path, header: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the rows of a CSV file: line number, and column -> text.

    If a row has fewer fields than the header, the remaining texts are empty.

    **Arguments:**

    - `header`: the columns of a file whose header may be missing. The header is missing if the
      first line has this number of fields and the second field is a number.

    **Raises:** `UserError` if the file is not a valid CSV file.
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


def file_hash(path: pathlib.Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
