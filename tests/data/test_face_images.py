"""Reading faces from untrusted files: the pixels, or the reason to skip a face."""

from __future__ import annotations

import io
import os
import pathlib
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from affect_jax.data import annotation_parsing, face_images
from tests.data.one_face import content_of, photograph, row, saved, settings

ROOT = pathlib.Path(__file__).resolve().parents[2]

# --- valid images ---


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "tif", "webp", "gif"])
def test_all_formats_give_the_same_pixels(tmp_path, ending):
    path = saved(tmp_path / f"a.{ending}", Image.fromarray(photograph()))
    image = face_images.read_image(path)
    assert image.dtype == np.uint8 and image.shape == (40, 48, 3)
    tolerance = 40 if ending == "gif" else 12  # a palette of 256 colours
    assert np.abs(image.astype(int) - photograph()).max() <= tolerance


def test_format_is_detected_from_the_content(tmp_path):
    path = tmp_path / "really_png.jpg"
    path.write_bytes(content_of(photograph(), "PNG"))
    np.testing.assert_array_equal(face_images.read_image(str(path)), photograph())


def test_16_bits_are_truncated_to_8(tmp_path):
    deep = photograph()[:, :, 0].astype(np.uint16) * 256 + 200
    path = saved(tmp_path / "deep.png", Image.fromarray(deep))
    np.testing.assert_array_equal(
        face_images.read_image(path), np.stack([photograph()[:, :, 0]] * 3, -1)
    )
    cv2.imwrite(str(tmp_path / "colour.png"), photograph()[:, :, ::-1].astype(np.uint16) * 256)
    np.testing.assert_array_equal(
        face_images.read_image(str(tmp_path / "colour.png")), photograph()
    )


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_modes_are_converted_to_rgb(tmp_path, mode):
    ending = "jpg" if mode == "CMYK" else "png"
    path = saved(tmp_path / f"a.{ending}", Image.fromarray(photograph()).convert(mode))
    image = face_images.read_image(path)
    assert image.shape == (40, 48, 3)
    tolerance = {"L": 100, "LA": 100, "1": 255, "P": 60}
    limit = tolerance[mode] if mode in tolerance else 20
    assert np.abs(image.astype(int) - photograph()).mean() <= limit


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200)]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert np.unique(face_images.read_image(path)).tolist() == [10]


def test_stereo_image_gives_its_first_frame(tmp_path):
    frames = [Image.fromarray(image) for image in (photograph(), photograph()[::-1])]
    path = saved(
        tmp_path / "a.jpg", frames[0], format="MPO", save_all=True, append_images=frames[1:]
    )
    assert np.abs(face_images.read_image(path).astype(int) - photograph()).max() <= 12


def test_exif_orientation_is_applied_only_with_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # "rotate 90 degrees clockwise to view"
    path = saved(tmp_path / "a.jpg", Image.fromarray(photograph()), exif=exif, quality=95)
    assert face_images.read_image(path).shape == (40, 48, 3)
    upright = face_images.read_image(path, upright=True)
    assert upright.shape == (48, 40, 3)
    assert np.abs(upright.astype(int) - np.rot90(photograph(), -1)).max() <= 12


def test_harmless_defects_are_accepted(tmp_path):
    whole = content_of(photograph())
    (tmp_path / "more.jpg").write_bytes(whole + b"appended by a careless server")
    (tmp_path / "stray.jpg").write_bytes(whole[:-2] + b"\x12\x34" + whole[-2:])
    for name in ("more.jpg", "stray.jpg"):
        assert face_images.read_image(str(tmp_path / name)).shape == (40, 48, 3)


# --- defective images ---


def png_header(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


WHOLE = content_of(photograph())
PNG = content_of(photograph(), "PNG")
DEFECTS = {
    "empty": (b"", "not an image"),
    "html": (b"<!DOCTYPE html><html>404 Not Found</html>", "not an image"),
    "noise": (bytes(range(256)) * 4, "not an image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "half": (WHOLE[: len(WHOLE) // 2], "image is truncated"),
    "without its end": (WHOLE[:-2], "image is truncated"),
    "header of a JPEG": (WHOLE[:120], "image is truncated|not an image"),
    "header of a PNG": (png_header(40, 40), "image is truncated"),
    "half a PNG": (PNG[: len(PNG) // 2], "image is truncated"),
    "bomb": (png_header(30_000, 30_000), "more than 64 megapixels"),
    "small bomb": (png_header(8_200, 8_200), "more than 64 megapixels"),
    "no pixels": (png_header(0, 10), "broken image|not an image"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_has_its_reason(tmp_path, defect):
    content, reason = DEFECTS[defect]
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(face_images.UnusableInputError, match=reason):
        face_images.read_image(str(tmp_path / "a.jpg"))


@pytest.mark.bad_input
def test_floating_point_and_32_bit_pixels_are_refused(tmp_path):
    path = saved(tmp_path / "a.tif", Image.fromarray(np.ones((4, 4), np.float32)))
    with pytest.raises(face_images.UnusableInputError, match="floating-point"):
        face_images.read_image(path)
    path = saved(tmp_path / "b.tif", Image.fromarray(np.full((4, 4), 70_000, np.int32)))
    with pytest.raises(face_images.UnusableInputError, match="more than 16 bits"):
        face_images.read_image(path)


@pytest.mark.bad_input
def test_paths_that_are_not_files_have_reasons(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    reasons = {
        "folder.jpg": "not a file",
        "loop.jpg": "symbolic links",
        "missing.jpg": "file missing",
        "folder.jpg/x/y.jpg": "file missing",
        f"{'n' * 300}.jpg": "too long",
        "a\0b.jpg": "zero byte",
    }
    for name, reason in reasons.items():
        assert reason in face_images.read_face(row(name), settings(tmp_path)).reason, name


@pytest.mark.bad_input
def test_paths_stay_below_the_folder(tmp_path):
    inside = tmp_path / "images"
    inside.mkdir()
    outside = saved(tmp_path / "secret.png", Image.fromarray(photograph()))
    (inside / "link.png").symlink_to(outside)
    (inside / "up").symlink_to(tmp_path)
    (tmp_path / "images_of_others").mkdir()
    saved(tmp_path / "images_of_others" / "a.png", Image.fromarray(photograph()))
    saved(inside / "a.png", Image.fromarray(photograph()))
    for name in ("../secret.png", outside, "link.png", "up/secret.png", "..\\secret.png", ".."):
        assert (
            face_images.read_face(row(name), settings(inside)).reason
            == "path leaves the image folder"
        )
    assert (
        "leaves" in face_images.read_face(row("../images_of_others/a.png"), settings(inside)).reason
    )
    assert not face_images.read_face(row("x/../a.png"), settings(inside)).reason


@pytest.mark.bad_input
def test_any_bytes_give_pixels_or_a_reason(tmp_path):
    path = tmp_path / "a.jpg"

    @given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=8), st.booleans())
    def check(offset: int, noise: bytes, cut: bool):
        damaged = WHOLE[:offset] + noise + (b"" if cut else WHOLE[offset + len(noise) :])
        path.write_bytes(damaged)
        try:
            image = face_images.read_image(str(path))
        except face_images.UnusableInputError as unusable:
            assert str(unusable)
        else:
            assert image.dtype == np.uint8 and image.ndim == 3

    check()


@pytest.mark.parametrize("sampling", [0, 1, 2])  # 4:4:4, 4:2:2, 4:2:0
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_jpeg_pixels_equal_those_of_pillow(sampling, progressive, grey):
    image = np.random.default_rng(0).integers(0, 256, (41, 67, 3), np.uint8)
    source = image[:, :, 0] if grey else image
    content = content_of(source, subsampling=sampling, progressive=progressive)
    with Image.open(io.BytesIO(content)) as pillow_image:
        expected = np.asarray(pillow_image.convert("RGB"))
    np.testing.assert_array_equal(face_images.decode_image(content), expected)


# --- the crop ---


@given(
    left=st.integers(-20, 40),
    top=st.integers(-20, 40),
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    margin=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_crop_is_the_box_clipped_at_the_border(left, top, width, height, margin):
    image = photograph()
    columns = range(max(0, round(left - margin * width)), 48)
    columns = [x for x in columns if x < round(left + width + margin * width)]
    rows = range(max(0, round(top - margin * height)), 40)
    rows = [y for y in rows if y < round(top + height + margin * height)]
    if not columns or not rows:
        with pytest.raises(face_images.UnusableInputError, match="outside the image"):
            face_images.crop_and_resize(image, (left, top, width, height), margin, 16)
        return
    face, frame = face_images.crop_and_resize(image, (left, top, width, height), margin, 16)
    assert face.shape == (16, 16, 3)
    assert frame == (columns[0], rows[0], len(columns), len(rows))
    source_pixels = image[np.ix_(rows, columns)].reshape(-1, 3)
    assert (face.reshape(-1, 3).min(0) >= source_pixels.min(0)).all()  # no pixel is invented
    assert (face.reshape(-1, 3).max(0) <= source_pixels.max(0)).all()


@pytest.mark.bad_input
@pytest.mark.parametrize("size", [(0, 10), (10, 0), (-5, 10), (0.4, 10)])
def test_box_without_area_is_refused(size):
    with pytest.raises(face_images.UnusableInputError, match="no area"):
        face_images.crop_and_resize(photograph(), (5, 5, *size), 0.0, 16)


def test_landmarks_follow_the_pixels():
    """A bright dot and its landmark stay at the same position, shrunk and enlarged."""
    for size in (64, 256):
        image = np.zeros((200, 300, 3), np.uint8)
        image[98:103, 148:153] = 255  # centre: x 150, y 100
        face, frame = face_images.crop_and_resize(image, (90, 60, 128, 96), 0.0, size)
        (point,) = face_images.map_points_to_crop(np.array([[150.0, 100.0]]), frame, size)
        weights = face[:, :, 0].astype(float)
        y, x = np.mgrid[:size, :size]
        centre = [(x * weights).sum() / weights.sum(), (y * weights).sum() / weights.sum()]
        np.testing.assert_allclose(point, centre, atol=0.06)


def test_face_is_cropped_encoded_and_mapped(tmp_path):
    saved(tmp_path / "a.jpg", Image.fromarray(photograph()), quality=98)
    points = np.stack([np.linspace(4, 33, 68), np.linspace(5, 24, 68)], -1)
    text = ";".join(f"{value:.3f}" for value in points.ravel())
    face = face_images.read_face(row(facial_landmarks=text), settings(tmp_path))
    record = face.record
    assert face.reason == "" and record["box"].tolist() == [4, 5, 30, 20]
    assert (record["expression"], record["valence"], record["arousal"]) == (1, 0.5, -0.25)
    image = simplejpeg.decode_jpeg(record["image"].getvalue())
    expected = cv2.resize(photograph()[5:25, 4:34], (32, 32), interpolation=cv2.INTER_LINEAR)
    assert np.abs(image.astype(int) - expected).mean() < 4
    np.testing.assert_allclose(
        record["landmarks"][0], [(0.5 * 32 / 30) - 0.5, 0.5 * 32 / 20 - 0.5], atol=1e-3
    )


def test_without_a_box_the_face_is_the_whole_image(tmp_path):
    saved(tmp_path / "a.jpg", Image.fromarray(photograph()))
    record = face_images.read_face(face_images.Row(1, "a", "a.jpg", {}), settings(tmp_path)).record
    assert record["box"].tolist() == [0, 0, 48, 40] and record["expression"] == -1
    for name in ("valence", "arousal", "landmarks", "action_units"):
        assert np.isnan(record[name]).all()


# --- memory ---

LOW_MEMORY = """
import resource, sys
import psutil
from affect_jax.core.errors import is_out_of_memory
from affect_jax.core.labels import EXPRESSIONS
from affect_jax.data import face_images

settings = face_images.Settings(sys.argv[1], 32, 0.0, EXPRESSIONS)
for ending in ("jpg", "png", "tif", "bmp"):
    row = face_images.Row(2, "", "large." + ending, {})
    for free_mib in (4, 30, 400):
        assert face_images.read_face(row._replace(image="small." + ending), settings).reason == ""
        limit_bytes = psutil.Process().memory_info().vms + (free_mib << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, resource.RLIM_INFINITY))
        try:
            outcome = face_images.read_face(row, settings).reason or "read"
        except Exception as error:
            outcome = "out of memory" if is_out_of_memory(error) else repr(error)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(ending, outcome)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory limits need Linux")
def test_no_face_is_skipped_because_memory_is_short(tmp_path):
    """The faces of a dataset must not depend on the machine that prepared it."""
    for ending in ("jpg", "png", "tif", "bmp"):
        saved(tmp_path / f"large.{ending}", Image.fromarray(photograph(3000, 3000)))
        saved(tmp_path / f"small.{ending}", Image.fromarray(photograph()))
    command = [sys.executable, "-c", LOW_MEMORY, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    outcomes = {line.split(" ", 1)[1] for line in run.stdout.splitlines()}
    assert outcomes == {"read", "out of memory"}, run.stdout


@pytest.mark.bad_input
def test_a_pipe_is_not_an_image(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(annotation_parsing.UnusableInputError, match="not a file"):
        face_images.read_image(str(tmp_path / "pipe.jpg"))


def test_ids_are_unique_if_a_file_has_the_name_of_a_repeated_row():
    names = ("a", "a", "a#2", "a", "a#2")
    rows = face_images.make_ids_unique(face_images.Row(i, n, n, {}) for i, n in enumerate(names))
    assert [row.id for row in rows] == ["a", "a#2", "a#2#2", "a#3", "a#2#3"]
