"""Many faces: rows through a pool of processes; what is skipped, why, and when it is too much."""

from __future__ import annotations

import collections
import csv
import dataclasses
import functools
import hashlib
import io
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import tqdm

from affect_jax.data import faces
from affect_jax.data.features import FacesBuilder, FacesConfig, record, say
from affect_jax.errors import UserError

CHUNK = 16
"""Rows handed to a worker at once."""

FEW_ROWS = 400
"""Below this many rows starting processes takes longer than the rows."""

SECONDS_BETWEEN_LINES = 30


@dataclasses.dataclass(eq=False)
class FilesConfig(FacesConfig):
    """A data set made from image files.

    **Arguments:**

    - `margin`: share of the annotated box added on each of its sides before cropping.
    """

    margin: float = 0.0


@dataclasses.dataclass(frozen=True)
class Source:
    """Rows of one split, and the folder in which their images lie.

    **Arguments:**

    - `rows`: gives the rows anew at each call.
    - `total`: how many there are.
    """

    rows: Callable[[], Iterable[faces.Row]]
    total: int
    folder: pathlib.Path


class FilesBuilder(FacesBuilder, skip_registration=True):
    """Faces from image files: give `sources`, split -> `Source`.

    **Arguments:**

    - `max_skipped`: share of a split's rows that may be unusable.
    - `num_workers`: processes; None: one a core. The records do not depend on it.
    """

    def __init__(
        self,
        *,
        config: FilesConfig,
        data_dir: str | os.PathLike,
        max_skipped: float = 0.01,
        num_workers: int | None = None,
    ):
        self._max_skipped = max_skipped
        self._num_workers = num_workers
        self._skipped: list[tuple[str, int, str, str]] = []
        super().__init__(config=config, data_dir=data_dir)

    def sources(self) -> dict[str, Source]:
        raise NotImplementedError

    def _split_generators(self, dl_manager: Any) -> Any:
        return {name: self._examples(name, source) for name, source in self.sources().items()}

    def _examples(self, split: str, source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
        config: Any = self.builder_config
        if not source.total:
            raise UserError(f"{self.name}: {split} has no rows")
        settings = faces.Settings(
            os.path.realpath(source.folder), config.image_size, config.margin, config.classes
        )
        found = in_order(
            functools.partial(faces.read_faces, settings=settings),
            unique(source.rows()),
            num_workers=self._num_workers or (1 if source.total < FEW_ROWS else num_cores()),
        )
        counts = self.counts[split] = {"read": 0, "skipped": 0}
        for face in with_progress(found, source.total, f"{self.name}: {split}", counts):
            counts["read"] += 1
            if face.reason:
                counts["skipped"] += 1
                self._skipped.append((split, face.number, face.id, face.reason))
                if counts["skipped"] > self._max_skipped * source.total:
                    self._refuse(split, counts, source.total)
                continue
            yield (
                face.id,
                record(
                    face.id,
                    face.image,
                    face.expression,
                    box=face.box,
                    valence=face.valence,
                    arousal=face.arousal,
                    landmarks=face.landmarks,
                ),
            )
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
            lines[:10],
        )

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        super()._download_and_prepare(dl_manager, download_config)
        write_skipped(self.data_path / "skipped.csv", self._skipped)

    def _log_download_done(self) -> None:
        super()._log_download_done()
        reasons = collections.Counter(skipped[3].split(":")[0] for skipped in self._skipped)
        for reason, count in reasons.most_common():
            say(f"{self.name}: skipped {count:,}: {reason}")
        if self._skipped:
            say(f"{self.name}: every skipped row is in {self.data_path / 'skipped.csv'}")


def write_skipped(path: Any, skipped: Sequence[tuple[str, int, str, str]]) -> None:
    """`skipped.csv`: one line a row that could not be used, and its reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("split", "row", "id", "reason"))
    writer.writerows(skipped)
    path.write_bytes(text.getvalue().encode("utf-8", "backslashreplace"))


def unique(rows: Iterable[faces.Row]) -> Iterator[faces.Row]:
    """Rows with ids that are text and differ: the second `a.jpg` becomes `a.jpg#2`."""
    seen: collections.Counter[str] = collections.Counter()
    for row in rows:
        name = row.id.encode("utf-8", "backslashreplace").decode()
        while (count := seen.update([name]) or seen[name]) > 1:
            name = f"{name}#{count}"
        yield row._replace(id=name)


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(
    function: Callable[[list[faces.Row]], list[faces.Face]],
    rows: Iterable[faces.Row],
    *,
    num_workers: int,
) -> Iterator[faces.Face]:
    """`function` over chunks of rows, in this process or in several; results in the rows' order.

    Only a few chunks a worker are under way at a time, so memory does not grow with the rows.

    **Raises:** `UserError` when a worker dies.
    """
    chunks = chunked(rows, CHUNK)
    if num_workers == 1:
        for chunk in chunks:
            yield from function(chunk)
        return
    # Spawned, not forked: a fork copies the locks of threads that JAX or a progress bar holds.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)
    pending = collections.deque()
    try:
        for chunk in chunks:
            pending.append(pool.submit(function, chunk))
            if len(pending) > 4 * num_workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process that reads images died, perhaps for want of memory; "
            "try again with fewer: num_workers = 1 needs the least"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Ctrl-C is the parent's to handle; a worker ends when its parent does, however that died."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faces.cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def chunked(rows: Iterable[faces.Row], size: int) -> Iterator[list[faces.Row]]:
    chunk: list[faces.Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def with_progress(
    found: Iterable[faces.Face], total: int, name: str, counts: dict[str, int]
) -> Iterator[faces.Face]:
    """A bar where a person watches, else a line every half minute."""
    bar = tqdm.tqdm(found, total=total, desc=name, unit=" faces", disable=not sys.stderr.isatty())
    last = time.monotonic()
    for face in bar:
        yield face
        if bar.disable and time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{name}: {counts['read']:,} of {total:,} rows, {counts['skipped']:,} skipped")


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
