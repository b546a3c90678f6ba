"""Frames with their times, tracks, smoothing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_jax.core.errors import UserError
from affect_jax.predict.video import CAMERA_RATE, SECONDS_AWAY, Smoothing, Tracks, Video, overlap
from tests.pictures_of_faces import write_film


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Eight frames, each of one shade, red first; 12.5 a second."""
    path = tmp_path_factory.mktemp("film") / "film.avi"
    frames = [np.full((48, 64, 3), (250 - 30 * i, 20, 10 * i), np.uint8) for i in range(8)]
    return write_film(path, frames, rate=12.5)


def test_every_frame_comes_once_with_its_time_in_colour(film):
    with Video(str(film)) as video:
        assert (video.rate, video.count, video.live) == (12.5, 8, False)
        frames = list(video.frames())
    assert [frame.number for frame in frames] == list(range(8))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(8) / 12.5)
    for place, frame in enumerate(frames):
        assert frame.pixels.shape == (48, 64, 3) and frame.pixels.dtype == np.uint8
        assert np.abs(frame.pixels.mean(axis=(0, 1)) - (250 - 30 * place, 20, 10 * place)).max() < 6


class Camera:
    """What OpenCV gives for a camera that is unplugged after three frames, without a rate."""

    def __init__(self, number):
        self.frames = [] if number else [np.full((4, 6, 3), i, np.uint8) for i in range(3)]

    def read(self):
        return (True, self.frames.pop(0)) if self.frames else (False, None)

    def get(self, what):
        return -1.0

    def release(self):
        self.frames = None


def test_a_cameras_frames_have_the_times_of_the_clock(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with Video(0) as video:
        assert video.live and video.count is None and video.rate == CAMERA_RATE
        frames = list(video.frames())
    assert [frame.pixels[0, 0, 0] for frame in frames] == [0, 1, 2]
    assert 0 <= frames[0].seconds < frames[1].seconds < frames[2].seconds < 60
    with pytest.raises(UserError, match="webcam:1: no such camera, or it is in use"):
        Video(1)


def test_times_go_forward_where_the_file_has_none(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: Camera(0))
    with Video("film.avi") as video:
        times = [frame.seconds for frame in video.frames()]
    np.testing.assert_allclose(times, np.arange(3) / CAMERA_RATE)


@pytest.mark.parametrize("content", [b"", b"x" * 3000, None])
def test_what_is_no_video_is_told_in_one_line(tmp_path, content, capfd):
    path = tmp_path / "film.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"film.mp4: no frame can be read of it"):
        Video(str(path))
    assert capfd.readouterr() == ("", "")


def box(x, y, side=40.0):
    return [x, y, side, side]


def test_faces_keep_their_tracks_in_whatever_order_they_are_found():
    tracks = Tracks()
    one, other = box(0, 0), box(100, 0)
    assert tracks.update(np.array([one, other]), 0.0).tolist() == [1, 2]
    assert tracks.update(np.array([box(104, 2), box(3, 1)]), 0.1).tolist() == [2, 1]
    assert tracks.update(np.array([box(6, 2), box(300, 0), box(110, 4)]), 0.2).tolist() == [1, 3, 2]


def test_a_face_that_was_away_shortly_comes_back_and_one_that_was_long_does_not():
    tracks = Tracks()
    tracks.update(np.array([box(0, 0)]), 0.0)
    assert tracks.update(np.zeros((0, 4)), 0.5).tolist() == []
    assert tracks.update(np.array([box(2, 0)]), SECONDS_AWAY).tolist() == [1]
    assert tracks.update(np.array([box(2, 0)]), 2.1 * SECONDS_AWAY).tolist() == [2]


def test_two_faces_that_moved_alike_are_both_followed():
    """The nearest pair alone would leave each of the others without a partner."""
    tracks = Tracks()
    tracks.update(np.array([box(0, 0), box(18, 0)]), 0.0)
    assert tracks.update(np.array([box(16, 0), box(34, 0)]), 0.1).tolist() == [1, 2]


places = st.lists(
    st.tuples(st.floats(0, 200), st.floats(0, 200), st.floats(1, 80), st.floats(1, 80)), max_size=5
)


@given(st.lists(places, max_size=6))
def test_no_two_faces_of_a_frame_share_a_track_and_no_track_is_given_twice(frames):
    tracks, started = Tracks(), 0
    for number, boxes in enumerate(frames):
        ids = tracks.update(np.array(boxes).reshape(-1, 4), number / 25).tolist()
        assert len(set(ids)) == len(ids)
        new = sorted(track for track in ids if track > started)
        assert new == list(range(started + 1, started + 1 + len(new)))
        started += len(new)


@given(places, places)
def test_overlap_is_a_symmetric_share(a, b):
    a, b = np.array(a).reshape(-1, 4), np.array(b).reshape(-1, 4)
    shares = overlap(a, b)
    assert shares.shape == (len(a), len(b)) and ((shares >= 0) & (shares <= 1 + 1e-9)).all()
    np.testing.assert_array_equal(shares, overlap(b, a).T)
    np.testing.assert_allclose(np.diag(overlap(a, a)), 1)


def test_a_change_is_halfway_done_after_the_half_life_however_many_frames_there_are():
    for rate in (5, 25, 100):
        smoothing = Smoothing(0.4)
        start = {"expression": np.array([[1.0, 0.0]], np.float32)}
        smoothing(np.array([7]), start, 0.0)
        now = {"expression": np.array([[0.0, 1.0]], np.float32)}
        for frame in range(1, round(0.4 * rate) + 1):
            smooth = smoothing(np.array([7]), now, frame / rate)["expression"]
        np.testing.assert_allclose(smooth, [[0.5, 0.5]], atol=1e-6)


def test_each_track_is_smoothed_alone_and_a_new_one_is_as_predicted():
    smoothing = Smoothing(1.0)
    first = {"valence_arousal": np.array([[1, 1], [-1, -1]], np.float32)}
    smoothing(np.array([1, 2]), first, 0.0)
    second = {"valence_arousal": np.array([[0, 0], [0, 0], [0.5, 0.5]], np.float32)}
    smooth = smoothing(np.array([2, 1, 3]), second, 1.0)["valence_arousal"]
    np.testing.assert_allclose(smooth, [[-0.5, -0.5], [0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_array_equal(second["valence_arousal"][:2], 0)  # what was given stays


def test_without_a_half_life_nothing_changes():
    outputs = {"expression": np.array([[0.2, 0.8]])}
    assert Smoothing(0.0)(np.array([1]), outputs, 0.0) is outputs
