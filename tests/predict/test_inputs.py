"""What inputs name: each image and video once, in order; what names nothing is an error."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from affect_jax.core.errors import UserError
from affect_jax.predict import inputs
from tests.pictures_of_faces import write_film


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """b.jpg, a film, and below them a.PNG; beside them what is neither."""
    monkeypatch.chdir(tmp_path)
    image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "shots" / "deep").mkdir(parents=True)
    image.save("shots/b.jpg")
    image.save("shots/deep/a.PNG")
    write_film(tmp_path / "shots" / "film.avi", [np.zeros((16, 16, 3), np.uint8)] * 2)
    (tmp_path / "shots" / "notes.txt").write_text("no image")
    return tmp_path


def names(*inputs: str) -> list[tuple[str, str]]:
    return [(source.name, source.relative) for source in inputs.expand(inputs)]


def test_a_folder_is_searched_at_any_depth(folder):
    found = inputs.expand(["shots"])
    assert [source.relative for source in found] == ["b.jpg", "deep/a.PNG", "film.avi"]
    assert [source.name for source in found] == [f"shots/{s.relative}" for s in found]
    assert [source.is_video for source in found] == [False, False, True]


def test_patterns_and_files_come_in_the_order_of_the_inputs_each_once(folder):
    assert names("shots/**/*.PNG", "shots/b.jpg", "shots", "shots/b.jpg") == [
        ("shots/deep/a.PNG", "a.PNG"),
        ("shots/b.jpg", "b.jpg"),
        ("shots/film.avi", "film.avi"),
    ]
    assert names("shots/b.jpg", "shots/../shots/b.jpg") == [("shots/b.jpg", "b.jpg")]
    assert names("shots/*") == [("shots/b.jpg", "b.jpg"), ("shots/film.avi", "film.avi")]


def test_a_file_is_what_its_content_says(folder):
    os.rename("shots/b.jpg", "shots/b.data")
    assert names("shots/b.data") == [("shots/b.data", "b.data")]
    os.rename("shots/deep/a.PNG", "shots/[a].png")  # a name that looks like a pattern
    assert names("shots/[a].png") == [("shots/[a].png", "[a].png")]


def test_a_damaged_image_is_an_image_whose_row_will_say_so(folder):
    content = (folder / "shots" / "b.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(content[: len(content) // 2])
    assert names("half.jpg") == [("half.jpg", "half.jpg")]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "text, message",
    [
        ("nothing.jpg", "nothing.jpg: no such file or folder"),
        ("shots/notes.txt", "shots/notes.txt: not an image, nor by its ending a video"),
        ("empty.png", "empty.png: not an image"),
        ("broken.mp4", "broken.mp4: no frame can be read of it"),
        ("shots/*.gif", r"shots/\*.gif: no image or video in it"),
        ("none", "none: no image or video in it"),
        ("pipe", "pipe: neither a file nor a folder"),
        ("webcam:77", "webcam:77: no such camera"),
        ("webcam:", "webcam:: no such file"),
    ],
)
def test_what_names_nothing_is_told(folder, text, message):
    (folder / "empty.png").write_bytes(b"")
    (folder / "broken.mp4").write_bytes(b"x" * 100)
    (folder / "none").mkdir()
    os.mkfifo(folder / "pipe")
    with pytest.raises(UserError, match=message) as caught:
        inputs.expand(["shots", text])
    assert "\n" not in str(caught.value)
