"""Parsing of labels, boxes, landmarks and `.npy` files: valid values, or a reason."""

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
from affect_jax.data import annotation_parsing, face_images
from tests.data.one_face import photograph, row, saved, settings

# --- numbers ---


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1;2", "9" * 400])
@pytest.mark.parametrize(
    "name", ["expression", "valence", "arousal", *annotation_parsing.BOX_FIELDS]
)
def test_text_that_is_not_a_number_has_a_reason(tmp_path, name, text):
    saved(tmp_path / "a.jpg", Image.fromarray(photograph()))
    reason = face_images.read_face(row(**{name: text}), settings(tmp_path)).reason
    assert reason.startswith(f"{name}: ") and len(reason) < (300 if name == "expression" else 80)


@pytest.mark.bad_input
@pytest.mark.parametrize("label", ["-1", "11", "2.5", "1e300", "joyful"])
def test_labels_outside_the_eleven_have_a_reason(tmp_path, label):
    saved(tmp_path / "a.jpg", Image.fromarray(photograph()))
    assert "expression: " in face_images.read_face(row(expression=label), settings(tmp_path)).reason


@pytest.mark.parametrize("label", range(11))
def test_all_eleven_labels_are_parsed_from_number_and_name(label):
    name = labels.EXPRESSIONS[label]
    for text in (str(label), f"{label}.0", name, name.upper(), label):
        assert (
            annotation_parsing.parse_expression({"expression": text}, labels.EXPRESSIONS) == label
        )


def test_dimensions_outside_the_range_have_a_reason_and_minus_2_is_nan():
    assert np.isnan(annotation_parsing.parse_dimension({"valence": "-2"}, "valence"))
    assert np.isnan(annotation_parsing.parse_dimension({}, "valence"))
    assert annotation_parsing.parse_dimension({"valence": "-1"}, "valence") == -1
    with pytest.raises(annotation_parsing.UnusableInputError, match=r"outside -1\.\.1"):
        annotation_parsing.parse_dimension({"valence": "1.5"}, "valence")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "text", ["1;2;3", ";".join(["a"] * 136), ";".join(["nan"] * 136), "1" * 999]
)
def test_malformed_landmarks_have_a_reason(text):
    with pytest.raises(annotation_parsing.UnusableInputError, match="facial_landmarks: not"):
        annotation_parsing.parse_landmarks({"facial_landmarks": text})


@pytest.mark.parametrize("shape", [(136,), (68, 2), (136, 1), (1, 68, 2)])
def test_landmarks_are_parsed_from_arrays(shape):
    points = annotation_parsing.parse_landmarks(
        {"facial_landmarks": np.arange(136.0).reshape(shape)}
    )
    np.testing.assert_array_equal(points, np.arange(136.0).reshape(68, 2))


@pytest.mark.bad_input
@pytest.mark.parametrize("shape", [(2, 68), (4, 34), (135,), (0,)])
def test_landmarks_of_another_shape_have_a_reason(shape):
    """The points of [2, 68] would be scrambled."""
    with pytest.raises(annotation_parsing.UnusableInputError, match="not 68 points"):
        annotation_parsing.parse_landmarks({"facial_landmarks": np.zeros(shape)})


# --- .npy ---


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), "3", np.array([3]), np.array("3.0")])
def test_npy_numbers_and_strings(tmp_path, value):
    np.save(tmp_path / "1_exp.npy", value)
    expression = annotation_parsing.read_npy(str(tmp_path / "1_exp.npy"))
    assert annotation_parsing.parse_expression({"expression": expression}, labels.EXPRESSIONS) == 3


@pytest.mark.bad_input
def test_npy_is_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    np.save(tmp_path / "1_exp.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(annotation_parsing.UnusableInputError, match="not an array of numbers"):
        annotation_parsing.read_npy(str(tmp_path / "1_exp.npy"))
    assert not (tmp_path / "sprung").exists()


def npy_header(shape: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.bad_input
def test_npy_with_a_false_size_has_a_reason(tmp_path):
    path = tmp_path / "1_lnd.npy"
    for content in (npy_header("(10000000000000,)"), b"", b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(annotation_parsing.UnusableInputError, match="not an array of numbers"):
            annotation_parsing.read_npy(str(path))
    with pytest.raises(annotation_parsing.UnusableInputError, match="2_exp.npy: file missing"):
        annotation_parsing.read_npy(str(tmp_path / "2_exp.npy"))


@pytest.mark.bad_input
def test_a_pipe_is_not_an_annotation(tmp_path):
    os.mkfifo(tmp_path / "1_lnd.npy")
    with pytest.raises(annotation_parsing.UnusableInputError, match="1_lnd.npy: not a file"):
        annotation_parsing.read_npy(str(tmp_path / "1_lnd.npy"))
    with pytest.raises(annotation_parsing.UnusableInputError, match="zero: not a file"):
        annotation_parsing.read_npy("/dev/zero")


@pytest.mark.bad_input
def test_any_npy_gives_a_face_or_a_reason(tmp_path):
    saved(tmp_path / "1.jpg", Image.fromarray(photograph()))
    np.save(tmp_path / "1_val.npy", 0.5)
    np.save(tmp_path / "1_aro.npy", "-2")
    buffer = io.BytesIO()
    np.save(buffer, np.array("7.25"))
    good = buffer.getvalue()

    @given(st.integers(0, len(good)), st.binary(max_size=6), st.booleans())
    def check(offset: int, noise: bytes, cut: bool):
        damaged = good[:offset] + noise + (b"" if cut else good[offset + len(noise) :])
        (tmp_path / "1_exp.npy").write_bytes(damaged)
        line = face_images.Row(1, "1.jpg", "1.jpg", {}, str(tmp_path / "1_"))
        face = face_images.read_face(line, settings(tmp_path))
        assert face.reason.startswith(("1_exp.npy", "expression")) or (
            0 <= face.record["expression"] <= 10
        )

    check()


@pytest.mark.bad_input
@pytest.mark.parametrize("far", ["1e308", "-1e7"])
def test_huge_coordinates_have_a_reason(far):
    """Their products would be infinite."""
    box = dict(zip(annotation_parsing.BOX_FIELDS, (far, "0", "5", "5"), strict=True))
    with pytest.raises(annotation_parsing.UnusableInputError, match="face_x: .* is out of range"):
        annotation_parsing.parse_box(box)
    with pytest.raises(
        annotation_parsing.UnusableInputError, match="not all points are within range"
    ):
        annotation_parsing.parse_landmarks({"facial_landmarks": ";".join([far] * 136)})
