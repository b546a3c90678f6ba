"""Frames of video files and cameras with their times; which face is the same as before."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from scipy import optimize

from affect_jax.core.errors import UserError

SAME = 0.3
"""Intersection by union from which a box is taken for the face of a box before."""

SECONDS_AWAY = 1.0
"""A face that was not seen for longer gets a new track."""

CAMERA_RATE = 15.0  # frames a second of an annotated film, where a camera does not tell its own

# FFmpeg speaks of damage on standard error, where one line is the command's.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Frame(NamedTuple):
    """- `number`: from 0.
    - `seconds`: since the first frame, by the file's own times or a camera's clock.
    - `pixels`: uint8 RGB [height, width, 3], upright.
    """

    number: int
    seconds: float
    pixels: np.ndarray


class Video:
    """A context manager.

    **Arguments:**

    - `source`: a file, or the number of a camera.

    **Raises:** `UserError` where it cannot be opened or has no frame.
    """

    def __init__(self, source: str | int):
        self.live = isinstance(source, int)
        self._name = f"webcam:{source}" if self.live else source
        with _quiet():
            if isinstance(source, int):
                self._capture = cv2.VideoCapture(source)
            else:
                self._capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG)
            opened, first = self._capture.read()
        if not opened:
            self._capture.release()
            what = "no such camera, or it is in use" if self.live else "no frame can be read of it"
            raise UserError(f"{self._name}: {what}")
        self._first: np.ndarray | None = first
        self._started = time.monotonic()
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= 1000 else CAMERA_RATE
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(count) if count > 0 and not self.live else None  # as the file says

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def frames(self) -> Iterator[Frame]:
        """Every frame, once, until the file's end; of a camera, until it is unplugged."""
        number, before, frame = 0, -1.0, self._first
        self._first = None
        while frame is not None:
            seconds = self._time()
            if seconds <= before:  # a file without times
                seconds = before + 1 / self.rate
            before = seconds if number else max(seconds, 0.0)
            yield Frame(number, before, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            number += 1
            read, frame = self._capture.read()
            frame = frame if read else None

    def _time(self) -> float:
        if self.live:
            return time.monotonic() - self._started
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without OpenCV's own words about what cannot be opened."""
    log: Any = getattr(cv2.utils, "logging", cv2)  # where OpenCV 5 has them, and where 4 did
    level = log.getLogLevel()
    log.setLogLevel(0)
    try:
        yield
    finally:
        log.setLogLevel(level)


class Tracks:
    """Numbers for faces from frame to frame.

    A box may be the face of an earlier one that it overlaps by `SAME` at least; as many are as can
    be, and of the ways to do that the one with the largest sum of overlaps.
    """

    def __init__(self) -> None:
        self._boxes: dict[int, np.ndarray] = {}
        self._seen: dict[int, float] = {}
        self._next = 1

    def update(self, boxes: np.ndarray, seconds: float) -> np.ndarray:
        """**Arguments:**

        - `boxes`: float [n, 4] of one frame.
        - `seconds`: its time; it never goes back.

        **Returns:** int64 [n], the track of each, from 1.
        """
        self._boxes = {
            track: box
            for track, box in self._boxes.items()
            if seconds - self._seen[track] <= SECONDS_AWAY
        }
        known = list(self._boxes)
        tracks = np.zeros(len(boxes), np.int64)
        if known and len(boxes):
            overlaps = overlap(np.stack([self._boxes[track] for track in known]), boxes)
            worth = np.where(overlaps >= SAME, 1 + overlaps, 0)
            rows, columns = optimize.linear_sum_assignment(worth, maximize=True)
            for row, column in zip(rows, columns, strict=True):
                if overlaps[row, column] >= SAME:
                    tracks[column] = known[row]
        for place in np.flatnonzero(tracks == 0):
            tracks[place], self._next = self._next, self._next + 1
        for track, box in zip(tracks.tolist(), boxes, strict=True):
            self._boxes[track], self._seen[track] = box, seconds
        return tracks


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection by union of boxes [m, 4] with boxes [n, 4]: [m, n]."""
    a, b = a[:, None].astype(np.float64), b[None].astype(np.float64)
    sides = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    sides = np.maximum(sides - np.maximum(a[..., :2], b[..., :2]), 0)
    both = sides.prod(axis=-1)
    return both / (a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - both)


class Smoothing:
    """Each track's predictions as a moving average, whose weights halve every `half_life` seconds.

    By time, not by frames: a film of 60 frames a second is smoothed as one of 24. A mean of
    probabilities is one, and a mean of valences is in their range.

    **Arguments:**

    - `half_life`: seconds; 0: predictions stay as they are.
    """

    def __init__(self, half_life: float):
        self._half_life = half_life
        self._before: dict[int, tuple[float, dict[str, np.ndarray]]] = {}

    def __call__(
        self, tracks: np.ndarray, outputs: dict[str, np.ndarray], seconds: float
    ) -> dict[str, np.ndarray]:
        """**Arguments:** `outputs`: of one frame, `{head: [n, ...]}`; given back smoothed."""
        if not self._half_life:
            return outputs
        smooth = {head: values.copy() for head, values in outputs.items()}
        for place, track in enumerate(tracks.tolist()):
            if track in self._before:
                then, before = self._before[track]
                old = 0.5 ** ((seconds - then) / self._half_life)
                for head, values in smooth.items():
                    values[place] = old * before[head] + (1 - old) * values[place]
            now = {head: values[place] for head, values in smooth.items()}
            self._before[track] = (seconds, now)
        return smooth
