import pytest

from tests.small_artifacts import small_config, write_checkpoints, write_tables


@pytest.fixture(scope="session")
def config():
    return small_config()


@pytest.fixture(scope="session")
def artifacts_path(tmp_path_factory, config):
    """Everything that align reads; read-only, stages write elsewhere."""
    path = tmp_path_factory.mktemp("artifacts")
    write_tables(path)
    write_checkpoints(path, config)
    return path
