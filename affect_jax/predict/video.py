"""Video input: frames with timestamps, face tracks across frames, and smoothing over time."""

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

MIN_OVERLAP = 0.3
"""Minimum intersection over union for two boxes in consecutive frames to be the same face."""

MAX_GAP_SECONDS = 1.0
"""A face that is missing for longer gets a new track."""

DEFAULT_FRAMES_PER_SECOND = 15.0  # of an annotated video, if the camera does not report its rate

# FFmpeg logs damaged frames to standard error, which is reserved for the command's summary.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Frame(NamedTuple):
    """One frame of a video.

    - `number`: index, from 0.
    - `seconds`: time since the first frame, from the file's timestamps or the clock (webcam).
    - `pixels`: uint8 RGB [height, width, 3], upright.
    """

    number: int
    seconds: float
    pixels: np.ndarray


class Video:
    """An opened video file or webcam; a context manager.

    **Arguments:**

    - `source`: path of a file, or index of a webcam.

    **Raises:** `UserError` if it cannot be opened or has no frame.
    """

    def __init__(self, source: str | int):
        self.is_camera = isinstance(source, int)
        self._name = f"webcam:{source}" if self.is_camera else source
        with _silence_opencv():
            if isinstance(source, int):
                self._capture = cv2.VideoCapture(source)
            else:
                self._capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG)
            success, first_frame = self._capture.read()
        if not success:
            self._capture.release()
            reason = "no such camera, or it is in use" if self.is_camera else "no readable frame"
            raise UserError(f"{self._name}: {reason}")
        self._first_frame: np.ndarray | None = first_frame
        self._start_time = time.monotonic()
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.frames_per_second = rate if 0 < rate <= 1000 else DEFAULT_FRAMES_PER_SECOND
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # From the file's header: the number of readable frames may be lower.
        self.frame_count = int(count) if count > 0 and not self.is_camera else None

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def frames(self) -> Iterator[Frame]:
        """Yields every frame once, until the file ends or the webcam is disconnected."""
        number, previous_seconds, frame = 0, -1.0, self._first_frame
        self._first_frame = None
        while frame is not None:
            seconds = self._time()
            if seconds <= previous_seconds:  # the file has no timestamps
                seconds = previous_seconds + 1 / self.frames_per_second
            previous_seconds = seconds if number else max(seconds, 0.0)
            yield Frame(number, previous_seconds, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            number += 1
            success, frame = self._capture.read()
            frame = frame if success else None

    def _time(self) -> float:
        if self.is_camera:
            return time.monotonic() - self._start_time
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000


@contextlib.contextmanager
def _silence_opencv() -> Iterator[None]:
    """Turns off OpenCV's own log messages about files that it cannot open."""
    log: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 5; OpenCV 4 has the functions in cv2
    level = log.getLogLevel()
    log.setLogLevel(0)
    try:
        yield
    finally:
        log.setLogLevel(level)


class FaceTracker:
    """Assigns track numbers to faces, so that a face has the same number in all frames.

    A box can continue the track of an earlier box if they overlap by `MIN_OVERLAP` or more. The
    assignment continues as many tracks as possible; among these assignments it maximises the sum
    of the overlaps.
    """

    def __init__(self) -> None:
        self._boxes: dict[int, np.ndarray] = {}
        self._last_seconds: dict[int, float] = {}
        self._next_track = 1

    def update(self, boxes: np.ndarray, seconds: float) -> np.ndarray:
        """Assigns tracks to the faces of the next frame.

        **Arguments:**

        - `boxes`: float [n, 4] of one frame.
        - `seconds`: time of the frame; it never decreases.

        **Returns:** int64 [n], the track of each face, from 1.
        """
        self._boxes = {
            track: box
            for track, box in self._boxes.items()
            if seconds - self._last_seconds[track] <= MAX_GAP_SECONDS
        }
        active_tracks = list(self._boxes)
        tracks = np.zeros(len(boxes), np.int64)
        if active_tracks and len(boxes):
            previous_boxes = np.stack([self._boxes[track] for track in active_tracks])
            overlaps = intersection_over_union(previous_boxes, boxes)
            reward = np.where(overlaps >= MIN_OVERLAP, 1 + overlaps, 0)
            rows, columns = optimize.linear_sum_assignment(reward, maximize=True)
            for row, column in zip(rows, columns, strict=True):
                if overlaps[row, column] >= MIN_OVERLAP:
                    tracks[column] = active_tracks[row]
        for index in np.flatnonzero(tracks == 0):
            tracks[index], self._next_track = self._next_track, self._next_track + 1
        for track, box in zip(tracks.tolist(), boxes, strict=True):
            self._boxes[track], self._last_seconds[track] = box, seconds
        return tracks


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [m, 4] and boxes [n, 4]: [m, n]."""
    a, b = a[:, None].astype(np.float64), b[None].astype(np.float64)
    sides = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    sides = np.maximum(sides - np.maximum(a[..., :2], b[..., :2]), 0)
    intersection = sides.prod(axis=-1)
    return intersection / (a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - intersection)


class OutputSmoother:
    """Exponential moving average of the predictions of each track.

    The weights halve every `half_life` seconds. They depend on time, not on the number of frames,
    so a video of 60 frames per second is smoothed like one of 24. A mean of probabilities is a
    probability, and a mean of valences is in the range of valence.

    **Arguments:**

    - `half_life`: seconds; 0 turns smoothing off.
    """

    def __init__(self, half_life: float):
        self._half_life = half_life
        self._averages: dict[int, tuple[float, dict[str, np.ndarray]]] = {}

    def __call__(
        self, tracks: np.ndarray, outputs: dict[str, np.ndarray], seconds: float
    ) -> dict[str, np.ndarray]:
        """Smooths the predictions of the next frame.

        **Arguments:**

        - `tracks`: int64 [n], of `FaceTracker.update`.
        - `outputs`: `{head: [n, ...]}`; not modified.
        - `seconds`: time of the frame.

        **Returns:** the smoothed outputs, in the shapes of `outputs`.
        """
        if not self._half_life:
            return outputs
        smoothed = {head: values.copy() for head, values in outputs.items()}
        for index, track in enumerate(tracks.tolist()):
            if track in self._averages:
                previous_seconds, average = self._averages[track]
                decay = 0.5 ** ((seconds - previous_seconds) / self._half_life)
                for head, values in smoothed.items():
                    values[index] = decay * average[head] + (1 - decay) * values[index]
            current = {head: values[index] for head, values in smoothed.items()}
            self._averages[track] = (seconds, current)
        return smoothed
