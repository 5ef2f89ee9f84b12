"""Predicting in several processes gives the bytes of predicting in one."""

import pytest

from calico.predictors.predict import predict
from calico.tracking import Run
from tests.small_artifacts import small_config, write_checkpoints, write_finetuned, write_tables

pytestmark = pytest.mark.integration


def test_the_number_of_processes_changes_no_byte(tmp_path):
    config = small_config()
    write_tables(tmp_path)
    write_checkpoints(tmp_path, config)
    write_finetuned(tmp_path, config, "calico")
    for num_processes in (1, 2):
        section = config.predict.model_copy(update={"shard_size": 5, "num_processes": num_processes})
        predict(
            config.model_copy(update={"predict": section}),
            "calico",
            artifacts_path=tmp_path,
            output_path=tmp_path / str(num_processes),
            run=Run(),
        )
    files = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
