"""Expansion of inputs: order, duplicates, suffixes and errors."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from affect_jax.core.errors import UserError
from affect_jax.predict import inputs
from tests.rendered_scenes import write_video


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with b.jpg, a video and a text file, and a subfolder with a.PNG."""
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "shots" / "deep").mkdir(parents=True)
    image.save("shots/b.jpg")
    image.save("shots/deep/a.PNG")
    write_video(tmp_path / "shots" / "video.avi", [np.zeros((16, 16, 3), np.uint8)] * 2)
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


def test_images_are_recognised_by_content(folder):
    os.rename("shots/b.jpg", "shots/b.data")
    assert expand_to_names("shots/b.data") == [("shots/b.data", "b.data")]
    os.rename("shots/deep/a.PNG", "shots/[a].png")  # a name that looks like a pattern
    assert expand_to_names("shots/[a].png") == [("shots/[a].png", "[a].png")]


def test_damaged_image_is_accepted(folder):
    content = (folder / "shots" / "b.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(content[: len(content) // 2])
    assert expand_to_names("half.jpg") == [("half.jpg", "half.jpg")]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "text, message",
    [
        ("nothing.jpg", "nothing.jpg: no such file or folder"),
        ("shots/notes.txt", "shots/notes.txt: not an image, and its suffix is not"),
        ("empty.png", "empty.png: not an image"),
        ("broken.mp4", "broken.mp4: no readable frame"),
        ("shots/*.gif", r"shots/\*.gif: contains no file with the suffix"),
        ("none", "none: contains no file with the suffix"),
        ("pipe", "pipe: neither a file nor a folder"),
        ("webcam:77", "webcam:77: no such camera"),
        ("webcam:", "webcam:: no such file"),
    ],
)
def test_unusable_input_raises(folder, text, message):
    (folder / "empty.png").write_bytes(b"")
    (folder / "broken.mp4").write_bytes(b"x" * 100)
    (folder / "none").mkdir()
    os.mkfifo(folder / "pipe")
    with pytest.raises(UserError, match=message) as error:
        inputs.expand_inputs(["shots", text])
    assert "\n" not in str(error.value)
