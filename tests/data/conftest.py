"""A release and its prepared records; tests do not modify them."""

from __future__ import annotations

import pathlib

import pytest

from tests.data.affectnet_releases import first_release, prepare


@pytest.fixture(scope="session")
def release(tmp_path_factory) -> pathlib.Path:
    return first_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="session")
def builder(release, tmp_path_factory):
    return prepare(release, tmp_path_factory.mktemp("data"))
