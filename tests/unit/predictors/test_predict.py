from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from calico.assembly import open_finetuned
from calico.core import tables
from calico.core.tokens import TASKS
from calico.errors import DataError
from calico.predictors.lvlm import LvlmPredictor
from calico.predictors.predict import ask, open_images, predict
from calico.tracking import Run
from tests.small_artifacts import IMAGE_SIZE, write_finetuned


@pytest.fixture(scope="module")
def finetuned_path(artifacts_path, config):
    write_finetuned(artifacts_path, config, "calico")
    return artifacts_path


FILES = tuple(
    f"{prefix}{name}.parquet" for prefix in ("", "shuffled_") for name in ("predictions", "answers")
)


def changed(config, **values):
    return config.model_copy(update={"predict": config.predict.model_copy(update=values)})


class Talkative:
    """Makes a random model say one sentence with two masks; the states behind the words stay its own."""

    def __init__(self, assembly):
        text = " I see <p> the dog </p> [SEG] (IMAGE1) and <p> the mug </p> [SEG] (IMAGE2)."
        ids = assembly.tokenizer(text, add_special_tokens=False)["input_ids"]
        self.ids = [*ids, assembly.tokenizer.eos_token_id]
        self.num_steps = 0
        self.head = assembly.model.language_model.head

    def __call__(self, state_BD):
        logits_BV = self.head(state_BD)
        logits_BV[:, self.ids[self.num_steps % len(self.ids)]] += 20.0
        self.num_steps += 1
        return logits_BV


@pytest.fixture
def talkative(monkeypatch):
    def open_talkative(*arguments, **options):
        assembly = open_finetuned(*arguments, **options)
        assembly.model.language_model.head = Talkative(assembly)
        return assembly

    monkeypatch.setattr("calico.predictors.predict.open_finetuned", open_talkative)


@pytest.mark.usefixtures("talkative")
def test_every_test_pair_is_answered_once(finetuned_path, config, tmp_path):
    section = changed(config, max_new_tokens=100)
    predict(section, "calico", artifacts_path=finetuned_path, output_path=tmp_path, run=Run())
    pair_ids = sorted(pair.pair_id for pair in tables.read_pairs(finetuned_path / "pair" / "test.parquet"))
    for prefix in ("", "shuffled_"):
        answers = tables.read_answers(tmp_path / f"{prefix}answers.parquet")
        assert [answer.pair_id for answer in answers] == pair_ids
        masks = tables.read_predictions(tmp_path / f"{prefix}predictions.parquet")
        keys = [(mask.pair_id, mask.image_index, mask.label) for mask in masks]
        assert keys == sorted(keys)
        assert len(keys) == 2 * len(pair_ids)


@pytest.mark.usefixtures("talkative")
def test_shuffled_images_are_left_out_on_request(finetuned_path, config, tmp_path):
    for folder, with_shuffled in (("both", True), ("own", False)):
        predict(
            changed(config, max_new_tokens=100),
            "calico",
            artifacts_path=finetuned_path,
            output_path=tmp_path / folder,
            run=Run(),
            with_shuffled=with_shuffled,
        )
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == sorted(FILES[:2])
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == sorted(FILES)
    for name in FILES[:2]:
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "both" / name).read_bytes()
    assert tables.read_predictions(tmp_path / "own" / FILES[0])
    assert tables.read_predictions(tmp_path / "both" / FILES[0]) != tables.read_predictions(
        tmp_path / "both" / FILES[2]
    )


@pytest.mark.usefixtures("talkative")
def test_the_same_model_gives_the_same_bytes(finetuned_path, config, tmp_path):
    section = changed(config, max_new_tokens=100)
    for name in ("first", "second"):
        predict(section, "calico", artifacts_path=finetuned_path, output_path=tmp_path / name, run=Run())
    assert tables.read_predictions(tmp_path / "first" / FILES[0])
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


@pytest.mark.usefixtures("talkative")
def test_the_batch_size_and_the_shards_change_no_text_and_no_mask(finetuned_path, config, tmp_path):
    """Matrix products of other sizes round differently, so scores agree to the last digits only."""
    found = []
    for batch_size, shard_size in ((1, 18), (3, 18), (4, 7)):
        section = changed(config, batch_size=batch_size, shard_size=shard_size, max_new_tokens=100)
        predict(section, "calico", artifacts_path=finetuned_path, output_path=tmp_path, run=Run())
        found.append((tables.read_answers(tmp_path / FILES[1]), tables.read_predictions(tmp_path / FILES[0])))
    assert len(found[0][1]) == 2 * 18
    for answers, masks in found[1:]:
        assert answers == found[0][0]
        for mask, expected in zip(masks, found[0][1], strict=True):
            assert (mask.pair_id, mask.label, mask.rle) == (expected.pair_id, expected.label, expected.rle)
            # Worst difference measured with the trained tiny model, batches of 1, 5 and 16: 6.0e-8.
            assert mask.score == pytest.approx(expected.score, abs=1e-5)


@pytest.mark.usefixtures("talkative")
def test_an_interrupted_run_answers_only_what_is_missing(finetuned_path, config, tmp_path, monkeypatch):
    section = changed(config, shard_size=5, max_new_tokens=100)
    predict(section, "calico", artifacts_path=finetuned_path, output_path=tmp_path / "whole", run=Run())
    asked = []
    answer = LvlmPredictor.predict

    def stop_at_the_fourth(predictor, questions):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append([question.pair_id for question in questions])
        return answer(predictor, questions)

    monkeypatch.setattr(LvlmPredictor, "predict", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        predict(section, "calico", artifacts_path=finetuned_path, output_path=tmp_path / "again", run=Run())
    assert not (tmp_path / "again").exists()
    monkeypatch.setattr(
        LvlmPredictor,
        "predict",
        lambda predictor, questions: asked.append(len(questions)) or answer(predictor, questions),
    )
    predict(section, "calico", artifacts_path=finetuned_path, output_path=tmp_path / "again", run=Run())
    assert asked[3:] == [3, 5, 5, 5, 3]
    assert tables.read_predictions(tmp_path / "whole" / FILES[0])
    for name in FILES:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert not list((finetuned_path / "runs").glob("predict-*"))


class DyingPool(ThreadPoolExecutor):
    """Stands for processes that the system kills."""

    def __init__(self, max_workers, *, mp_context):
        super().__init__(max_workers)
        assert mp_context.get_start_method() == "spawn"

    def submit(self, function, *arguments):
        return super().submit(self.die)

    def die(self):
        raise BrokenProcessPool("A process was terminated abruptly.")


def test_a_killed_process_is_one_sentence(finetuned_path, config, tmp_path, monkeypatch):
    monkeypatch.setattr("calico.predictors.predict.ProcessPoolExecutor", DyingPool)
    section = changed(config, shard_size=9, num_processes=2)
    with pytest.raises(
        DataError, match=r"one of 2 predicting processes was killed.*keeps the finished shards"
    ):
        predict(section, "calico", artifacts_path=finetuned_path, output_path=tmp_path, run=Run())


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
