"""The study of estimated action units."""

from __future__ import annotations

import numpy as np
import pytest

from affect_jax.data.affectnet import affectnet
from affect_jax.facs import rig
from affect_jax.facs.__main__ import LabelledFaces
from affect_jax.facs.action_units import UNITS
from benchmarks import action_units


def test_units_separate_expressions_of_real_faces(real_faces, tmp_path):
    """They separate them better than a single distance between landmarks."""
    page = tmp_path / "results.md"
    page.write_text("<!-- action_units: command -->\n<!-- end of action_units -->\n")
    builder = affectnet(manual_dir=real_faces, data_dir=str(tmp_path), image_size=16)
    action_units.main([f"--prepared={builder.data_path}", f"--page={page}", "--faces=50"])
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in page.read_text().splitlines()
        if line.startswith("| ")
    ]
    areas = {text: float(rest[-1].split()[0]) for text, *rest in rows[1:10]}
    assert areas["happiness: AU12"] >= 0.93
    assert areas["surprise: AU25 or AU26"] >= 0.84
    assert areas["disgust: AU9"] >= 0.83 and areas["disgust: AU9 or AU10"] >= 0.80
    assert areas["anger: AU4"] >= 0.70
    assert rows[1][-1].endswith("(2,050 : 2,450)")
    for name, unit in (("happiness", 12), ("disgust", 9), ("anger", 4)):
        distance = action_units.CONTRASTS[name][1]
        assert areas[f"{name}: AU{unit}"] > areas[distance], name
    errors = [float(row[1]) for row in rows[11:]]
    assert errors == sorted(errors) and errors[0] < 0.03


def test_areas_exclude_faces_without_estimates():
    points = np.tile(rig.NEUTRAL, (5, 1, 1))
    points[0] = rig.deform_symmetric(np.eye(18)[[UNITS.index(12)]], np.zeros((1, rig.NUM_IDENTITY)))
    points[3] = np.nan
    expressions = np.array(["happiness", "happiness", "neutral", "neutral", ""])
    faces = LabelledFaces(expressions, np.full(5, "training"), expressions, points)
    rows = [list(row.values()) for row in action_units.area_rows(faces)]
    assert rows[0] == ["happiness: AU12", "0.750 (2 : 1)", "0.750 (2 : 1)"]
    assert rows[1][1:] == ["0.750 (2 : 1)"] * 2
    assert rows[2] == ["surprise: AU25 or AU26", "- (0 : 1)", "- (0 : 1)"]


@pytest.mark.parametrize(
    ("name", "unit"), [("happiness", 12), ("surprise", 26), ("disgust", 10), ("anger", 4)]
)
def test_distances_grow_with_their_expression(name, unit):
    intensities = np.stack([np.zeros(18), np.eye(18)[UNITS.index(unit)]])
    points = rig.deform_symmetric(intensities, np.zeros((2, rig.NUM_IDENTITY)))
    neutral, active = action_units.landmark_distances(3 * points + 7)[name]
    assert active > neutral + 0.05
