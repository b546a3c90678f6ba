"""What a row says of its face: read as it is meant, or refused with a reason."""

from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from affect_jax.core import labels
from affect_jax.data import face_images, label_parsing
from tests.data.one_face import photograph, row, saved, settings

# --- numbers ---


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1;2", "9" * 400])
@pytest.mark.parametrize("name", ["expression", "valence", "arousal", *label_parsing.BOX])
def test_texts_that_are_no_numbers(tmp_path, name, text):
    saved(tmp_path / "a.jpg", Image.fromarray(photograph()))
    reason = face_images.read_face(row(**{name: text}), settings(tmp_path)).reason
    assert reason.startswith(f"{name}: ") and len(reason) < 80


@pytest.mark.bad_input
@pytest.mark.parametrize("label", ["-1", "11", "2.5", "1e300", "joyful"])
def test_labels_outside_the_eleven(tmp_path, label):
    saved(tmp_path / "a.jpg", Image.fromarray(photograph()))
    assert "expression: " in face_images.read_face(row(expression=label), settings(tmp_path)).reason


@pytest.mark.parametrize("label", range(11))
def test_all_eleven_labels_are_kept_by_number_and_name(label):
    for text in (str(label), f"{label}.0", labels.EXPRESSIONS[label], label):
        assert label_parsing.parse_expression({"expression": text}, labels.EXPRESSIONS) == label


def test_axes_know_the_mark_and_the_range():
    assert np.isnan(label_parsing.parse_axis({"valence": "-2"}, "valence"))
    assert np.isnan(label_parsing.parse_axis({}, "valence"))
    assert label_parsing.parse_axis({"valence": "-1"}, "valence") == -1
    with pytest.raises(label_parsing.Unusable, match=r"outside -1\.\.1"):
        label_parsing.parse_axis({"valence": "1.5"}, "valence")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "text", ["1;2;3", ";".join(["a"] * 136), ";".join(["nan"] * 136), "1" * 999]
)
def test_landmarks_that_are_none(text):
    with pytest.raises(label_parsing.Unusable, match="facial_landmarks: not"):
        label_parsing.parse_landmarks({"facial_landmarks": text})


# --- .npy ---


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), "3", np.array([3]), np.array("3.0")])
def test_npy_numbers_and_strings(tmp_path, value):
    np.save(tmp_path / "1_exp.npy", value)
    expression = label_parsing.read_npy(str(tmp_path / "1_exp.npy"))
    assert label_parsing.parse_expression({"expression": expression}, labels.EXPRESSIONS) == 3


@pytest.mark.bad_input
def test_npy_is_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    np.save(tmp_path / "1_exp.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(label_parsing.Unusable, match="not an array of numbers"):
        label_parsing.read_npy(str(tmp_path / "1_exp.npy"))
    assert not (tmp_path / "sprung").exists()


def npy_header(shape: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.bad_input
def test_npy_that_lies_about_its_size(tmp_path):
    path = tmp_path / "1_lnd.npy"
    empty_texts = npy_header("(136, 1000000000000)").replace(b"<f8", b"<U0")
    lies = (npy_header("(10000000000000,)"), npy_header("(-1,)"), empty_texts)
    for content in (*lies, b"", b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(label_parsing.Unusable, match="not an array of numbers"):
            label_parsing.read_npy(str(path))
    path.write_bytes(b"0" * 100_000)
    with pytest.raises(label_parsing.Unusable, match="more than 64 KiB"):
        label_parsing.read_npy(str(path))
    with pytest.raises(label_parsing.Unusable, match="2_exp.npy: file missing"):
        label_parsing.read_npy(str(tmp_path / "2_exp.npy"))


@pytest.mark.bad_input
@pytest.mark.parametrize("kind", ["complex64", "datetime64[s]", "float64, float64"])
def test_npy_of_what_is_no_number(tmp_path, kind):
    np.save(tmp_path / "1_lnd.npy", np.ones(136).astype(kind))
    with pytest.raises(label_parsing.Unusable, match="not an array of numbers"):
        label_parsing.read_npy(str(tmp_path / "1_lnd.npy"))


@pytest.mark.bad_input
def test_any_npy_gives_a_face_or_a_reason(tmp_path):
    saved(tmp_path / "1.jpg", Image.fromarray(photograph()))
    np.save(tmp_path / "1_val.npy", 0.5)
    np.save(tmp_path / "1_aro.npy", "-2")
    buffer = io.BytesIO()
    np.save(buffer, np.array("7.25"))
    good = buffer.getvalue()

    @given(st.integers(0, len(good)), st.binary(max_size=6), st.booleans())
    def check(place: int, noise: bytes, cut: bool):
        damaged = good[:place] + noise + (b"" if cut else good[place + len(noise) :])
        (tmp_path / "1_exp.npy").write_bytes(damaged)
        line = face_images.Row(1, "1.jpg", "1.jpg", None, str(tmp_path / "1_"))
        face = face_images.read_face(line, settings(tmp_path))
        assert face.reason.startswith(("1_exp.npy", "expression")) or 0 <= face.expression <= 10

    check()


@pytest.mark.bad_input
@pytest.mark.parametrize("far", ["1e308", "-1e7"])
def test_places_beyond_any_image_are_refused(far):
    """Their products would be infinite."""
    box = dict(zip(label_parsing.BOX, (far, "0", "5", "5"), strict=True))
    with pytest.raises(label_parsing.Unusable, match="face_x: .* is no usable number"):
        label_parsing.parse_box(box)
    with pytest.raises(label_parsing.Unusable, match="not all are places in an image"):
        label_parsing.parse_landmarks({"facial_landmarks": ";".join([far] * 136)})
