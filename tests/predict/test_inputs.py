"""Inputs: order, duplicates, suffixes and errors; the frames of videos and their times."""

from __future__ import annotations

import os
import pathlib
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from affect_jax.core.errors import UserError
from affect_jax.predict import inputs
from affect_jax.predict.inputs import DEFAULT_FRAMES_PER_SECOND, Source, read_frames
from tests.rendered_scenes import write_video


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with b.jpg, a video and a text file, and a subfolder with a.PNG."""
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "shots" / "deep").mkdir(parents=True)
    image.save("shots/b.jpg")
    image.save("shots/deep/a.PNG")
    (tmp_path / "shots" / "video.avi").write_bytes(b"")
    (tmp_path / "shots" / "notes.txt").write_text("no image")
    return tmp_path


def expand_to_names(*arguments: str) -> list[tuple[str, str]]:
    return [(source.name, source.relative_path) for source in inputs.expand_inputs(arguments)]


def test_folders_are_searched_recursively(folder):
    sources = inputs.expand_inputs(["shots"])
    assert [source.relative_path for source in sources] == ["b.jpg", "deep/a.PNG", "video.avi"]
    assert [source.name for source in sources] == [f"shots/{s.relative_path}" for s in sources]
    assert [source.is_video for source in sources] == [False, False, True]


def test_sources_keep_the_order_of_inputs_without_duplicates(folder):
    assert expand_to_names("shots/**/*.PNG", "shots/b.jpg", "shots", "shots/b.jpg") == [
        ("shots/deep/a.PNG", "a.PNG"),
        ("shots/b.jpg", "b.jpg"),
        ("shots/video.avi", "video.avi"),
    ]
    assert expand_to_names("shots/b.jpg", "shots/../shots/b.jpg") == [("shots/b.jpg", "b.jpg")]
    assert expand_to_names("shots/*") == [
        ("shots/b.jpg", "b.jpg"),
        ("shots/video.avi", "video.avi"),
    ]


def test_named_files_need_no_suffix(folder):
    assert expand_to_names("shots/notes.txt") == [("shots/notes.txt", "notes.txt")]
    os.rename("shots/deep/a.PNG", "shots/[a].png")  # a name that looks like a pattern
    assert expand_to_names("shots/[a].png") == [("shots/[a].png", "[a].png")]


def test_linked_folders_are_searched_once(folder):
    for name in ("loop", "loop2", ".hidden"):
        os.symlink("..", f"shots/deep/{name}")
    assert expand_to_names("shots/deep")[0] == ("shots/deep/a.PNG", "a.PNG")
    assert len(expand_to_names("shots/deep")) == 3


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "text, message",
    [
        ("nothing.jpg", "nothing.jpg: no such image or video"),
        ("shots/*.gif", r"shots/\*.gif: no such image or video"),
        ("none", "none: no such image or video"),
        ("pipe", "pipe: no such image or video"),
        ("webcam:77", "webcam:77: no such camera"),
        ("webcam:", "webcam:: no such image or video"),
        ("webcam:99999999999", "webcam:99999999999: no such image or video"),
        ("x" * 300, "x: no such image or video"),
        ("x/" * 3000, "x/: no such image or video"),
    ],
)
def test_unusable_input_raises(folder, text, message):
    (folder / "none").mkdir()
    os.mkfifo(folder / "pipe")
    with pytest.raises(UserError, match=message) as error:
        inputs.expand_inputs(["shots", text])
    assert "\n" not in str(error.value)


def test_image_is_one_frame_without_a_number():
    source = Source("a/b.png", "b.png")
    assert list(read_frames(source)) == [inputs.Frame(source, "a/b.png", None, None, 0.0)]


def write_coloured_frames(path: pathlib.Path) -> Source:
    """Writes eight frames of constant colour, red first; 12.5 frames per second."""
    frames = [np.full((48, 64, 3), (250 - 30 * i, 20, 10 * i), np.uint8) for i in range(8)]
    return Source(str(write_video(path, frames, rate=12.5)), path.name)


def test_yields_every_frame_once_with_its_time(tmp_path):
    frames = list(read_frames(write_coloured_frames(tmp_path / "video.avi")))
    assert [frame.number for frame in frames] == list(range(8))
    assert {frame.frames_per_second for frame in frames} == {12.5}
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(8) / 12.5)
    for index, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3) and frame.image.dtype == np.uint8
        assert np.abs(frame.image.mean(axis=(0, 1)) - (250 - 30 * index, 20, 10 * index)).max() < 6


def test_unreadable_frames_are_a_warning(tmp_path, logged_warnings):
    source = write_coloured_frames(tmp_path / "video.avi")
    content = pathlib.Path(source.name).read_bytes()
    chunks = [match.start() for match in re.finditer(b"00dc", content)]  # a header, the frames
    pathlib.Path(source.name).write_bytes(content[: chunks[4]])
    assert len(list(read_frames(source))) == 3
    assert logged_warnings == [f"{source.name}: only 3 of 8 frames are readable"]


class Camera:
    """Mock of OpenCV's camera: disconnected after three frames, with an unknown rate."""

    def __init__(self, number, *_):
        self.frames = [] if number else [np.full((4, 6, 3), i, np.uint8) for i in range(3)]

    def read(self):
        return (True, self.frames.pop(0)) if self.frames else (False, None)

    def get(self, what):
        return -1.0

    def release(self):
        self.frames = None


def test_webcam_frames_have_clock_times(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    (source,) = inputs.expand_inputs(["webcam:0"])
    assert source == Source("webcam:0", "webcam_0", 0) and source.is_video
    frames = list(read_frames(source))
    assert [frame.image[0, 0, 0] for frame in frames] == [0, 1, 2]
    assert 0 <= frames[0].seconds < frames[1].seconds < frames[2].seconds < 60
    assert frames[0].frames_per_second == DEFAULT_FRAMES_PER_SECOND
    with pytest.raises(UserError, match="webcam:1: no such camera, or it is in use"):
        inputs.expand_inputs(["webcam:1"])


def test_times_increase_without_timestamps(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: Camera(0))
    times = [frame.seconds for frame in read_frames(Source("video.avi", "video.avi"))]
    np.testing.assert_allclose(times, np.arange(3) / DEFAULT_FRAMES_PER_SECOND)


@pytest.mark.parametrize("content", [b"", b"x" * 3000])
def test_invalid_video_has_no_image_and_no_logs(tmp_path, content, capfd):
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    source = Source(str(path), "video.mp4")
    assert list(read_frames(source)) == [inputs.Frame(source, None)]
    assert capfd.readouterr() == ("", "")


@pytest.mark.bad_input
def test_video_whose_name_is_not_utf8_has_no_image(tmp_path, logged_warnings):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    pathlib.Path(name).write_bytes(b"")
    source = Source(name, "cafe.mp4")
    assert list(read_frames(source)) == [inputs.Frame(source, None)]
    assert "not UTF-8" in logged_warnings[0]
