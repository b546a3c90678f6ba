"""Preparation by Apache Beam: the same bytes as without it, and never a partial dataset."""

from __future__ import annotations

import pathlib
import sys

import pytest

from affect_jax.core.errors import UserError
from affect_jax.data import affectnet, beam_pipeline
from tests.releases import write_release

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


@pytest.mark.beam
def test_files_are_identical_to_those_without_beam(release, tmp_path):
    pytest.importorskip("apache_beam")
    expected = contents(prepare(release, tmp_path / "local", max_skipped=0.1).data_path)
    builder = prepare(release, tmp_path / "beam", max_skipped=0.1, beam=LOCAL)
    files = contents(builder.data_path)
    assert builder.counts["training"] == {"read": 64, "skipped": 2, "written": 62}
    assert files["skipped.csv"].decode().count("training") >= 2
    assert set(files) == set(expected)
    for name, content in expected.items():
        assert files[name] == content, name


@pytest.mark.beam
def test_too_many_unusable_rows_write_no_records(release, tmp_path):
    pytest.importorskip("apache_beam")
    with pytest.raises(UserError, match="2 of 64 rows.*max_skipped = 0.01"):
        prepare(release, tmp_path, max_skipped=0.01, beam=LOCAL)
    assert not list(tmp_path.rglob("*.array_record*"))
    assert list(tmp_path.rglob("refused.csv"))


def test_error_names_the_package_if_beam_is_not_installed(release, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    with pytest.raises(UserError, match=r"pip install 'affect_jax\[beam\]'"):
        prepare(release, tmp_path, beam=LOCAL)


@pytest.mark.beam
def test_processes_of_one_machine_are_refused():
    pytest.importorskip("apache_beam")
    with pytest.raises(UserError, match="leave it empty and set data.options.num_workers"):
        beam_pipeline.parse_options(LOCAL.replace("multi_threading", "multi_processing"))
