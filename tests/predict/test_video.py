"""Videos: frames and their times, tracks, and smoothing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.core.errors import UserError
from affect_jax.predict.video import (
    DEFAULT_FRAMES_PER_SECOND,
    MAX_GAP_SECONDS,
    FaceTracker,
    OutputSmoother,
    Video,
    intersection_over_union,
)
from tests.rendered_scenes import write_video


@pytest.fixture(scope="module")
def video_path(tmp_path_factory):
    """A video of eight frames of constant colour, red first; 12.5 frames per second."""
    path = tmp_path_factory.mktemp("video") / "video.avi"
    frames = [np.full((48, 64, 3), (250 - 30 * i, 20, 10 * i), np.uint8) for i in range(8)]
    return write_video(path, frames, rate=12.5)


def test_yields_every_frame_once_with_its_time(video_path):
    with Video(str(video_path)) as video:
        assert (video.frames_per_second, video.frame_count, video.is_camera) == (12.5, 8, False)
        frames = list(video.frames())
    assert [frame.number for frame in frames] == list(range(8))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(8) / 12.5)
    for index, frame in enumerate(frames):
        assert frame.pixels.shape == (48, 64, 3) and frame.pixels.dtype == np.uint8
        assert np.abs(frame.pixels.mean(axis=(0, 1)) - (250 - 30 * index, 20, 10 * index)).max() < 6


class Camera:
    """Mock of OpenCV's camera: disconnected after three frames, with an unknown rate."""

    def __init__(self, number):
        self.frames = [] if number else [np.full((4, 6, 3), i, np.uint8) for i in range(3)]

    def read(self):
        return (True, self.frames.pop(0)) if self.frames else (False, None)

    def get(self, what):
        return -1.0

    def release(self):
        self.frames = None


def test_camera_frames_have_clock_times(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with Video(0) as video:
        assert (
            video.is_camera
            and video.frame_count is None
            and video.frames_per_second == DEFAULT_FRAMES_PER_SECOND
        )
        frames = list(video.frames())
    assert [frame.pixels[0, 0, 0] for frame in frames] == [0, 1, 2]
    assert 0 <= frames[0].seconds < frames[1].seconds < frames[2].seconds < 60
    with pytest.raises(UserError, match="webcam:1: no such camera, or it is in use"):
        Video(1)


def test_times_increase_without_timestamps(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: Camera(0))
    with Video("video.avi") as video:
        times = [frame.seconds for frame in video.frames()]
    np.testing.assert_allclose(times, np.arange(3) / DEFAULT_FRAMES_PER_SECOND)


@pytest.mark.parametrize("content", [b"", b"x" * 3000, None])
def test_invalid_video_raises(tmp_path, content, capfd):
    path = tmp_path / "video.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="video.mp4: no readable frame"):
        Video(str(path))
    assert capfd.readouterr() == ("", "")


def square(x, y, side=40.0):
    return [x, y, side, side]


def test_tracks_do_not_depend_on_the_order_of_boxes():
    tracker = FaceTracker()
    a, b = square(0, 0), square(100, 0)
    assert tracker.update(np.array([a, b]), 0.0).tolist() == [1, 2]
    assert tracker.update(np.array([square(104, 2), square(3, 1)]), 0.1).tolist() == [2, 1]
    assert tracker.update(
        np.array([square(6, 2), square(300, 0), square(110, 4)]), 0.2
    ).tolist() == [1, 3, 2]


def test_track_continues_after_a_short_gap_only():
    tracker = FaceTracker()
    tracker.update(np.array([square(0, 0)]), 0.0)
    assert tracker.update(np.zeros((0, 4)), 0.5).tolist() == []
    assert tracker.update(np.array([square(2, 0)]), MAX_GAP_SECONDS).tolist() == [1]
    assert tracker.update(np.array([square(2, 0)]), 2.1 * MAX_GAP_SECONDS).tolist() == [2]


def test_follows_two_faces_that_move_together():
    """Greedy matching of the closest pair would leave the other two faces without a track."""
    tracker = FaceTracker()
    tracker.update(np.array([square(0, 0), square(18, 0)]), 0.0)
    assert tracker.update(np.array([square(16, 0), square(34, 0)]), 0.1).tolist() == [1, 2]


boxes_strategy = st.lists(
    st.tuples(st.floats(0, 200), st.floats(0, 200), st.floats(1, 80), st.floats(1, 80)), max_size=5
)


@given(st.lists(boxes_strategy, max_size=6))
def test_tracks_are_unique_in_a_frame_and_not_reused(frames):
    tracker, num_tracks = FaceTracker(), 0
    for number, boxes in enumerate(frames):
        tracks = tracker.update(np.array(boxes).reshape(-1, 4), number / 25).tolist()
        assert len(set(tracks)) == len(tracks)
        new_tracks = sorted(track for track in tracks if track > num_tracks)
        assert new_tracks == list(range(num_tracks + 1, num_tracks + 1 + len(new_tracks)))
        num_tracks += len(new_tracks)


@given(boxes_strategy, boxes_strategy)
def test_intersection_over_union_is_symmetric_and_in_range(a, b):
    a, b = np.array(a).reshape(-1, 4), np.array(b).reshape(-1, 4)
    overlaps = intersection_over_union(a, b)
    assert overlaps.shape == (len(a), len(b)) and ((overlaps >= 0) & (overlaps <= 1 + 1e-9)).all()
    np.testing.assert_array_equal(overlaps, intersection_over_union(b, a).T)
    np.testing.assert_allclose(np.diag(intersection_over_union(a, a)), 1)


def test_half_life_does_not_depend_on_the_frame_rate():
    for rate in (5, 25, 100):
        smoother = OutputSmoother(0.4)
        start = {"expression": np.array([[1.0, 0.0]], np.float32)}
        smoother(np.array([7]), start, 0.0)
        current = {"expression": np.array([[0.0, 1.0]], np.float32)}
        for frame in range(1, round(0.4 * rate) + 1):
            smoothed = smoother(np.array([7]), current, frame / rate)["expression"]
        np.testing.assert_allclose(smoothed, [[0.5, 0.5]], atol=1e-6)


def test_tracks_are_smoothed_separately():
    smoother = OutputSmoother(1.0)
    first = {"valence_arousal": np.array([[1, 1], [-1, -1]], np.float32)}
    smoother(np.array([1, 2]), first, 0.0)
    second = {"valence_arousal": np.array([[0, 0], [0, 0], [0.5, 0.5]], np.float32)}
    smoothed = smoother(np.array([2, 1, 3]), second, 1.0)["valence_arousal"]
    np.testing.assert_allclose(smoothed, [[-0.5, -0.5], [0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_array_equal(second["valence_arousal"][:2], 0)  # the argument is not modified


def test_zero_half_life_changes_nothing():
    outputs = {"expression": np.array([[0.2, 0.8]])}
    assert OutputSmoother(0.0)(np.array([1]), outputs, 0.0) is outputs
