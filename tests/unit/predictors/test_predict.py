import pytest

from calico.core import tables
from calico.core.tokens import TASKS
from calico.errors import DataError
from calico.predictors.predict import ask, open_images, predict
from calico.tracking import Run
from tests.small_artifacts import IMAGE_SIZE, write_finetuned


@pytest.fixture(scope="module")
def finetuned_path(artifacts_path, config):
    write_finetuned(artifacts_path, config, "calico")
    return artifacts_path


def test_every_test_pair_is_answered_once(finetuned_path, config, tmp_path):
    predict(config, "calico", artifacts_path=finetuned_path, output_path=tmp_path, run=Run())
    pair_ids = sorted(pair.pair_id for pair in tables.read_pairs(finetuned_path / "pair" / "test.parquet"))
    for prefix in ("", "shuffled_"):
        answers = tables.read_answers(tmp_path / f"{prefix}answers.parquet")
        assert [answer.pair_id for answer in answers] == pair_ids
        masks = tables.read_predictions(tmp_path / f"{prefix}predictions.parquet")
        keys = [(mask.pair_id, mask.image_index, mask.label) for mask in masks]
        assert keys == sorted(keys)


def test_the_same_model_gives_the_same_bytes(finetuned_path, config, tmp_path):
    for name in ("first", "second"):
        predict(config, "calico", artifacts_path=finetuned_path, output_path=tmp_path / name, run=Run())
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_questions_are_those_of_evaluation(finetuned_path, config):
    pairs = tables.read_pairs(finetuned_path / "pair" / "test.parquet")
    images = open_images(config, "calico", finetuned_path)
    questions = ask(pairs, [pair.image_ids for pair in pairs], images)
    assert len({question.prompt for question in questions}) == len(TASKS)
    assert {size for question in questions for size in question.mask_sizes} == {IMAGE_SIZE}


def test_a_damaged_finetuned_file_is_refused(artifacts_path, config, tmp_path):
    for name in ("checkpoints", "unify", "pair", "sources"):
        (tmp_path / name).symlink_to(artifacts_path / name)
    write_finetuned(tmp_path, config, "calico")
    path = tmp_path / "finetune" / "calico" / "trained.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"trained.safetensors: sha256 is"):
        predict(config, "calico", artifacts_path=tmp_path, output_path=tmp_path / "out", run=Run())
