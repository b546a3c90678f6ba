"""Preparation by Apache Beam: the same bytes as without, and never half a data set."""

from __future__ import annotations

import pathlib
import queue
import shutil
import sys

import pytest

from affect_jax.core.errors import UserError
from affect_jax.data import affectnet, beam_pipeline
from tests.releases import write_release

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCAL = "--runner=DirectRunner --direct_running_mode=multi_threading --direct_num_workers=2"


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> pathlib.Path:
    """64 and 24 faces; one image is missing, one is text."""
    folder = tmp_path_factory.mktemp("release")
    write_release(folder)
    images = sorted((folder / "Manually_Annotated_Images").rglob("training*.jpg"))
    images[5].unlink()
    images[9].write_text("<html>")
    return folder


def prepare(release: pathlib.Path, data: pathlib.Path, **options):
    return affectnet.affectnet(
        manual_dir=str(release), data_dir=str(data), image_size=32, **options
    )


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


@pytest.fixture(scope="module")
def expected(release, tmp_path_factory) -> dict[str, bytes]:
    """What is written without Beam."""
    data = tmp_path_factory.mktemp("local")
    return contents(prepare(release, data, max_skipped=0.1).data_path)


@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing"])
def test_every_byte_is_that_of_the_local_way(release, expected, tmp_path, mode):
    """By two workers, in threads and in processes of their own."""
    pytest.importorskip("apache_beam")
    options = LOCAL.replace("multi_threading", mode)
    builder = prepare(release, tmp_path, max_skipped=0.1, beam=options)
    found = contents(builder.data_path)
    assert builder.counts["training"] == {"read": 64, "skipped": 2, "written": 62}
    assert found["skipped.csv"].decode().count("training") >= 2
    assert set(found) == set(expected)
    for name, content in expected.items():
        assert found[name] == content, name


def test_too_many_unusable_rows_prepare_nothing(release, tmp_path):
    pytest.importorskip("apache_beam")
    with pytest.raises(UserError, match="2 of the first 64 rows.*more than max_skipped"):
        prepare(release, tmp_path, max_skipped=0.01, beam=LOCAL)
    assert not list(tmp_path.rglob("*.array_record*"))
    assert list(tmp_path.rglob("refused.csv"))


def test_without_beam_the_error_says_what_to_install(release, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    with pytest.raises(UserError, match=r"pip install 'affect_jax\[beam\]'"):
        prepare(release, tmp_path, beam=LOCAL)


@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing"])
def test_a_split_without_a_usable_row_is_told_as_without_beam(release, tmp_path, mode):
    """tfds stops at a split of no records, before anything is counted."""
    pytest.importorskip("apache_beam")
    spoilt = tmp_path / "release"
    shutil.copytree(release, spoilt)
    for image in spoilt.rglob("training*.jpg"):
        image.write_text("<html>")
    with pytest.raises(UserError, match="10 of the first 10 rows .*cannot be used"):
        prepare(spoilt, tmp_path / "data", beam=LOCAL.replace("multi_threading", mode))
    assert list(tmp_path.rglob("refused.csv"))
    with pytest.raises(UserError, match="training: none of 64 rows can be used"):
        prepare(spoilt, tmp_path / "other", beam=LOCAL, max_skipped=1.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("'unclosed", "No closing quotation"),
        ("--direct_num_workers=many", "invalid int value: 'many'"),
        ("--direct_running_mode=sometimes", "invalid choice: 'sometimes'"),
    ],
)
def test_options_that_beam_does_not_read_are_one_line(options, said, capfd):
    pytest.importorskip("apache_beam")
    with pytest.raises(UserError) as error:
        beam_pipeline.options(options)
    assert str(error.value).startswith("data.options.beam = ")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


DEATH, BROKEN, REFUSED = beam_pipeline.WorkerDied("died"), OSError("lost"), UserError("no rows")


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([None], None),
        ([REFUSED, DEATH], REFUSED),
        ([DEATH, REFUSED], REFUSED),
        ([DEATH], DEATH),
        ([DEATH, BROKEN], DEATH),
        ([DEATH, DEATH, None], None),  # after the last record
        ([BROKEN, DEATH], DEATH),  # what failed as it died
        ([BROKEN], BROKEN),
    ],
)
def test_how_a_pipeline_ended(ends, expected, monkeypatch):
    monkeypatch.setattr(beam_pipeline, "SECONDS_TO_END", 0.01)
    told: queue.Queue = queue.Queue()
    for end in ends:
        told.put(end)
    assert beam_pipeline._first(told) is expected
