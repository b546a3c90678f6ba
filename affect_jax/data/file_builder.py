"""Many faces: the rows of a release, what is skipped of them and why, and when it is too much."""

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
from affect_jax.data.builder import FacesBuilder, FacesConfig, make_record
from affect_jax.data.worker_processes import in_order, num_cores, say, with_progress

SHOWN = 10  # skipped rows in the message when they are too many
FEW_ROWS = 400
"""Below this many rows starting processes takes longer than the rows."""


@dataclasses.dataclass(eq=False)
class FilesConfig(FacesConfig):
    """A data set made from image files.

    **Arguments:**

    - `margin`: share of the annotated box added on each of its sides before cropping.
    - `unit_scale`: how the greatest intensity of an action unit is written.
    """

    margin: float = 0.0
    unit_scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Source:
    """Rows of one split, and the folder in which their images lie.

    **Arguments:**

    - `rows`: gives the rows anew at each call.
    - `total`: how many there are.
    """

    rows: Callable[[], Iterable[face_images.Row]]
    total: int
    folder: pathlib.Path


class FilesBuilder(FacesBuilder, skip_registration=True):
    """Faces from image files: give `sources`, split -> `Source`.

    **Arguments:**

    - `max_skipped`: share of a split's rows that may be unusable.
    - `num_workers`: processes; None: one a core. The records do not depend on it.
    - `beam`: options of an Apache Beam pipeline that reads the rows instead, see `pipeline`.
    """

    def __init__(
        self,
        *,
        config: FilesConfig,
        data_dir: str | os.PathLike,
        max_skipped: float = 0.01,
        num_workers: int | None = None,
        beam: str = "",
    ):
        _check("max_skipped", max_skipped, 0 <= max_skipped <= 1, "in [0, 1]")
        _check("num_workers", num_workers, num_workers is None or num_workers >= 1, "1 or more")
        _check("margin", config.margin, 0 <= config.margin <= 10, "in [0, 10]")
        self._max_skipped = max_skipped
        self._num_workers = num_workers
        self._beam = beam
        self._skipped: list[tuple[str, int, str, str]] = []
        super().__init__(config=config, data_dir=data_dir)

    def sources(self) -> dict[str, Source]:
        raise NotImplementedError

    def _split_generators(self, dl_manager: Any) -> Any:
        sources = self.sources()
        for name, source in sources.items():
            if not source.total:
                raise UserError(f"{self.name}: {name} has no rows")
        make = self._pipeline if self._beam else self._examples
        return {name: make(name, source) for name, source in sources.items()}

    def pipeline_options(self) -> Any:
        return beam_pipeline.options(self._beam) if self._beam else None

    def _pipeline(self, split: str, source: Source) -> Any:
        self.counts[split] = {"read": source.total, "skipped": 0}
        rows = functools.partial(_unique_rows, source)
        return beam_pipeline.examples(rows, self._settings(source), example, self._told(split))

    def _told(self, split: str) -> Any:
        """Where a pipeline's workers write which rows they skipped."""
        return self.data_path / f"{split}.skipped.json"

    def _settings(self, source: Source) -> face_images.Settings:
        config: Any = self.builder_config
        return face_images.Settings(
            os.path.realpath(source.folder),
            config.image_size,
            config.margin,
            config.classes,
            config.unit_scale,
        )

    def count(self) -> None:
        if not self._beam:
            return
        for split, counts in self.counts.items():
            skipped = json.loads(self._told(split).read_text())
            self._told(split).unlink()
            counts["skipped"] = len(skipped)
            self._skipped += sorted((split, number, id, why) for number, id, why in skipped)
            if len(skipped) > self._max_skipped * counts["read"]:
                self._refuse(split, counts, counts["read"])

    def _examples(self, split: str, source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
        found = in_order(
            functools.partial(face_images.read_faces, settings=self._settings(source)),
            unique(source.rows()),
            num_workers=self._num_workers or (1 if source.total < FEW_ROWS else num_cores()),
        )
        counts = self.counts[split] = {"read": 0, "skipped": 0}
        for face in with_progress(found, source.total, f"{self.name}: {split}", counts):
            counts["read"] += 1
            if face.reason:
                counts["skipped"] += 1
                self._skipped.append((split, face.number, face.id, face.reason))
                many = counts["skipped"] > self._max_skipped * source.total
                if many and counts["skipped"] >= SHOWN:
                    self._refuse(split, counts, source.total)
                continue
            yield example(face)
        if counts["skipped"] > self._max_skipped * source.total:
            self._refuse(split, counts, source.total)
        if counts["read"] == counts["skipped"]:
            raise UserError(f"{self.name}: {split}: none of {counts['read']:,} rows can be used")

    def _refuse(self, split: str, counts: dict[str, int], total: int) -> None:
        path = pathlib.Path(self.data_path_final).with_name("refused.csv")
        write_skipped(path, self._skipped)
        lines = [f"{name}, row {row}: {id}: {why}" for name, row, id, why in self._skipped]
        raise UserError(
            f"{self.name}: {split}: {counts['skipped']:,} of the first {counts['read']:,} rows (of"
            f" {total:,}) cannot be used, more than max_skipped = {self._max_skipped:g} of all;"
            f" nothing was prepared. They are listed in {path}; the first are",
            lines[:SHOWN],
        )

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        try:
            super()._download_and_prepare(dl_manager, download_config)
        except Exception as error:
            if self._beam and "generated examples is 0" in str(error):  # tfds', without a reason
                for split, source in self.sources().items():
                    next(self._examples(split, source))  # raises one where no row can be used
            raise
        write_skipped(self.data_path / "skipped.csv", self._skipped)

    def _log_download_done(self) -> None:
        super()._log_download_done()
        reasons = collections.Counter(skipped[3].split(":")[0] for skipped in self._skipped)
        for reason, count in reasons.most_common():
            say(f"{self.name}: skipped {count:,}: {reason}")
        if self._skipped:
            say(f"{self.name}: every skipped row is in {self.data_path / 'skipped.csv'}")


def _check(option: str, value: Any, holds: bool, wanted: str) -> None:
    if not holds:
        raise UserError(f"data.options.{option} = {value!r}: must be {wanted}")


def example(face: face_images.Face) -> tuple[str, dict[str, Any]]:
    """What `tfds` writes of a face that has an image."""
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


def _unique_rows(source: Source) -> Iterator[face_images.Row]:
    return unique(source.rows())


def write_skipped(path: Any, skipped: Sequence[tuple[str, int, str, str]]) -> None:
    """`skipped.csv`: one line a row that could not be used, and its reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("split", "row", "id", "reason"))
    writer.writerows(skipped)
    path.write_bytes(text.getvalue().encode("utf-8", "backslashreplace"))


def unique(rows: Iterable[face_images.Row]) -> Iterator[face_images.Row]:
    """Rows with ids that are text and differ: the second `a.jpg` becomes `a.jpg#2`."""
    seen: collections.Counter[str] = collections.Counter()
    for row in rows:
        name = row.id.encode("utf-8", "backslashreplace").decode()
        while (count := seen.update([name]) or seen[name]) > 1:
            name = f"{name}#{count}"
        yield row._replace(id=name)


def read_csv(
    path: pathlib.Path, header: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file, one at a time: line number and column -> text.

    A row with fewer fields than the header has empty texts for the rest.

    **Arguments:**

    - `header`: the columns of a file that may begin without a header; such a file's first line has
      as many fields, and a number as the second.

    **Raises:** `UserError` for a file that is no CSV.
    """
    try:
        # Names of files need not be UTF-8: "surrogateescape" gives back the bytes they had.
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
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
