"""A study, a copy of it for each test, and a client of its server."""

from __future__ import annotations

import shutil

import pytest
from study_fixtures import Client, make_study, serving


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("built"))


@pytest.fixture
def folder(built, tmp_path):
    return shutil.copytree(built, tmp_path / "study")


@pytest.fixture
def client(folder):
    with serving(folder) as server:
        yield Client(server)
