"""One finished data set, copied for each test that breaks it."""

import shutil
from pathlib import Path

import pytest

from tests.finished_data import write_finished


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    write_finished(folder)
    return folder


@pytest.fixture
def data_set(finished: Path, tmp_path: Path) -> Path:
    """A data set of this test alone."""
    return Path(shutil.copytree(finished, tmp_path / "tiny"))
