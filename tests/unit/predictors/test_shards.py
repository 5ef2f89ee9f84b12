import numpy as np
import pytest

from calico.core.masks import encode
from calico.core.records import Answer, PredictedMask
from calico.errors import DataError
from calico.predictors.protocol import Prediction
from calico.predictors.shards import ShardFolder

RLE = encode(np.eye(4, dtype=bool))


def make_prediction(pair_id, *labels):
    masks = tuple(PredictedMask(pair_id, "common_parts", 0, label, RLE, 0.1 + 0.2) for label in labels)
    return Prediction(Answer(pair_id, "common_parts", f"text of {pair_id}", 1, (("no_seg", 1),)), masks)


PREDICTIONS = [make_prediction("b", "head", "a tail"), make_prediction("a"), make_prediction("c", "head")]


def test_a_shard_is_read_as_it_was_written(tmp_path):
    folder = ShardFolder(tmp_path / "run")
    folder.write(1, PREDICTIONS)
    assert folder.read(1, ["b", "a", "c"]) == PREDICTIONS
    assert folder.missing(3) == [0, 2]
    folder.remove()
    assert not folder.path.exists()


def test_a_shard_without_its_answers_is_missing(tmp_path):
    folder = ShardFolder(tmp_path)
    folder.write(0, PREDICTIONS)
    (tmp_path / "00000.answers.parquet").unlink()
    assert folder.missing(1) == [0]


def test_a_shard_of_other_questions_is_refused(tmp_path):
    folder = ShardFolder(tmp_path)
    folder.write(0, PREDICTIONS)
    with pytest.raises(DataError, match=r"00000\.answers\.parquet: .* Delete .* and run the stage again"):
        folder.read(0, ["a", "b", "c"])


def test_the_name_follows_from_all_that_decides_the_result(tmp_path):
    first = ShardFolder.of_run(tmp_path, "predict-lisa", {"seed": 1, "values": [1, 2]})
    assert first.path.name.startswith("predict-lisa-")
    assert first == ShardFolder.of_run(tmp_path, "predict-lisa", {"values": [1, 2], "seed": 1})
    assert first != ShardFolder.of_run(tmp_path, "predict-lisa", {"values": [1, 2], "seed": 2})
