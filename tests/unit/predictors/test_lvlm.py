import math

import numpy as np
import pytest
import torch

from calico.assembly import open_pretrained
from calico.core.masks import decode
from calico.core.records import ImageFeatures
from calico.data.loading.feature_cache import FeatureCache
from calico.data.pairs.conversation import prompt_frame, render_prompt
from calico.errors import DataError
from calico.models.generation import Generated
from calico.predictors.lvlm import LvlmPredictor
from calico.predictors.protocol import Question

GROUNDING_PX = 64
WIDE, TALL = (32, 64), (64, 32)


class ScriptedModel(torch.nn.Module):
    """Answers by script; the state of the k-th [SEG] of an answer is k, and its mask covers k + 1 columns."""

    tokens_per_image = 2

    def __init__(self, tokenizer, script):
        super().__init__()
        self.seg_id = tokenizer.convert_tokens_to_ids("[SEG]")
        self.tokenizer, self.script = tokenizer, script
        self.image_indices = []
        self.room = []

    def generate(self, batch, features, *, max_new_tokens):
        self.room.append(max_new_tokens)
        return [self._answer(self.script[pair_id]) for pair_id in batch.pair_ids]

    def _answer(self, text):
        split = text.startswith("spelled: ")
        ids = self.tokenizer(" " + text, add_special_tokens=False, split_special_tokens=split)["input_ids"]
        ordinals = torch.arange(ids.count(self.seg_id), dtype=torch.float32)
        return Generated(tuple(ids), ordinals[:, None], torch.full_like(ordinals, math.log(0.8)), True)

    def decode_masks(self, seg_states_MD, image_index_M, features):
        self.image_indices.append(image_index_M.tolist())
        columns_G = torch.arange(16)
        is_inside_MG = columns_G < (seg_states_MD + 1)
        logits_MGG = torch.where(is_inside_MG, 5.0, -5.0)[:, None].expand(-1, 16, -1)
        return logits_MGG, torch.full((len(seg_states_MD),), 1.2)


def no_features(batch):
    empty = torch.zeros(len(batch.image_ids), 1, 1)
    return ImageFeatures(empty, empty)


def make_question(pair_id="a", num_images=2, sizes=(WIDE, TALL, WIDE), mask_sizes=None):
    ids = tuple(f"{pair_id}{index}" for index in range(num_images))
    sizes = sizes[:num_images]
    prompt = render_prompt("common_parts", num_images)
    return Question(pair_id, "common_parts", prompt, ids, sizes, mask_sizes or sizes)


@pytest.fixture(scope="module")
def tokenizer(artifacts_path, config):
    return open_pretrained(config.model, "calico", artifacts_path).tokenizer


def make_predictor(tokenizer, config, script, **changes):
    section = config.predict.model_copy(update=changes)
    model = ScriptedModel(tokenizer, script)
    return model, LvlmPredictor(
        model, tokenizer, section, features=no_features, grounding_px=GROUNDING_PX, max_length=200
    )


def test_masks_go_to_the_image_that_the_identifier_names(tokenizer, config):
    text = "They are <p> the dog's head </p> [SEG] (IMAGE2) and <p> a mug </p> [SEG] (IMAGE1)."
    model, predictor = make_predictor(tokenizer, config, {"a": text})
    (prediction,) = predictor.predict([make_question()])
    assert prediction.answer.text == text
    assert prediction.answer.num_malformed == 0
    assert [(mask.label, mask.image_index) for mask in prediction.masks] == [("dog's head", 1), ("mug", 0)]
    assert [(mask.rle.height, mask.rle.width) for mask in prediction.masks] == [TALL, WIDE]
    assert model.image_indices == [[1, 0]]


def test_a_mask_is_that_of_its_own_seg_token(tokenizer, config):
    text = "[SEG] <p> the mug </p> [SEG] (IMAGE1) and <p> the dog </p> [SEG] (IMAGE9)."
    _, predictor = make_predictor(tokenizer, config, {"a": text})
    (prediction,) = predictor.predict([make_question()])
    (mask,) = prediction.masks
    # The second [SEG]: two of sixteen columns of a 64 px frame, so the left eighth of a 64 px wide image.
    assert np.array_equal(decode(mask.rle).all(axis=0), np.arange(64) < 8)
    assert prediction.answer.num_malformed == 2


def test_score_is_the_mean_of_token_probability_and_clamped_iou(tokenizer, config):
    _, predictor = make_predictor(tokenizer, config, {"a": "<p> the mug </p> [SEG] (IMAGE1)"})
    (prediction,) = predictor.predict([make_question()])
    assert prediction.masks[0].score == pytest.approx((0.8 + 1.0) / 2)


def test_pairs_of_one_batch_keep_their_images_apart(tokenizer, config):
    script = {
        "a": "<p> the mug </p> [SEG] (IMAGE2)",
        "b": "nothing",
        "c": "<p> the dog </p> [SEG] (IMAGE1) and <p> the dog </p> [SEG] (IMAGE3)",
    }
    model, predictor = make_predictor(tokenizer, config, script, batch_size=3)
    questions = [make_question("a"), make_question("b", num_images=1), make_question("c", num_images=3)]
    predictions = predictor.predict(questions)
    assert model.image_indices == [[1, 3, 5]]
    assert [len(prediction.masks) for prediction in predictions] == [1, 0, 2]
    assert [prediction.answer.pair_id for prediction in predictions] == ["a", "b", "c"]


def test_no_questions_and_answers_without_masks_are_fine(tokenizer, config):
    _, predictor = make_predictor(tokenizer, config, {"a": "I see nothing."})
    assert predictor.predict([]) == []
    assert predictor.predict([make_question()])[0].masks == ()


def test_seg_spelled_in_letters_has_no_mask(tokenizer, config):
    text = "spelled: <p> the mug </p> [SEG] (IMAGE1)"
    _, predictor = make_predictor(tokenizer, config, {"a": text})
    (prediction,) = predictor.predict([make_question()])
    assert prediction.masks == ()
    assert prediction.answer.num_malformed == 1


@pytest.mark.parametrize(
    ("text", "faults", "num_masks"),
    [
        ("", {"empty_text": 1}, 0),
        ("The images show nothing.", {"no_seg": 1}, 0),
        ("<p> the mug </p> [SEG]", {"seg_without_image": 1}, 0),
        ("<p> the mug </p> [SEG] (IMAGE9)", {"unknown_image": 1}, 0),
        ("<p> the mug [SEG] (IMAGE1)", {"unbalanced_phrase": 1}, 0),
        ("the mug </p> [SEG] (IMAGE1)", {"unbalanced_phrase": 1}, 0),
        ("<p> </p> [SEG] (IMAGE1)", {"empty_label": 1}, 0),
        ("[SEG] " * 4000, {"seg_without_image": 4000}, 0),
        ("the mug and " * 2000, {"no_seg": 1}, 0),
        ("<p> the mug </p> [SEG] (IMAGE1) " * 500, {}, 500),
    ],
    ids=lambda value: value[:32] if isinstance(value, str) else None,
)
def test_malformed_answers_are_counted_and_never_fatal(tokenizer, config, text, faults, num_masks):
    """The good answer beside it in the batch keeps its mask."""
    script = {"a": text, "b": "<p> the dog </p> [SEG] (IMAGE2)"}
    _, predictor = make_predictor(tokenizer, config, script, batch_size=2)
    bad, good = predictor.predict([make_question("a"), make_question("b")])
    assert dict(bad.answer.faults) == faults
    assert len(bad.masks) == num_masks
    assert [(mask.label, mask.image_index) for mask in good.masks] == [("dog", 1)]
    assert good.answer.faults == ()


def test_masks_of_exchanged_images_have_the_size_of_the_pairs_own(tokenizer, config):
    _, predictor = make_predictor(tokenizer, config, {"a": "<p> the mug </p> [SEG] (IMAGE1)"})
    (prediction,) = predictor.predict([make_question(mask_sizes=((10, 20), (30, 40)))])
    assert (prediction.masks[0].rle.height, prediction.masks[0].rle.width) == (10, 20)


def test_an_answer_gets_the_room_that_the_prompt_leaves(tokenizer, config):
    model, predictor = make_predictor(tokenizer, config, {"a": "nothing"}, max_new_tokens=1000)
    predictor.predict([make_question()])
    assert 0 < model.room[0] < 200
    head, tail = prompt_frame(2)
    question = "why? " * 300
    long = Question(
        "a", "question", f"{head}{question}{tail}", ("x", "y"), (WIDE, TALL), (WIDE, TALL), question
    )
    with pytest.raises(DataError, match=r"the prompt has \d+ tokens, the model takes 200 with the answer"):
        predictor.predict([long])


@pytest.mark.parametrize("variant", ["calico", "lisa", "glamm"])
def test_answers_do_not_depend_on_the_batch_size(artifacts_path, config, variant):
    torch.manual_seed(5)
    assembly = open_pretrained(config.model, variant, artifacts_path)
    view_px = {"global": {"calico": 32, "lisa": 32, "glamm": 48}[variant], "semantic": 32, "grounding": 64}
    questions = [make_question(pair_id, num_images) for pair_id, num_images in (("a", 1), ("b", 3), ("c", 2))]
    image_ids = [image_id for question in questions for image_id in question.image_ids]
    views = [
        (image_id, {name: torch.randn(3, px, px) for name, px in view_px.items()}) for image_id in image_ids
    ]
    features = FeatureCache(views, assembly.model.eval().encode_images, batch_size=4)
    texts = [
        [
            prediction.answer.text
            for prediction in LvlmPredictor(
                assembly.model,
                assembly.tokenizer,
                config.predict.model_copy(update={"batch_size": batch_size}),
                features=features,
                grounding_px=GROUNDING_PX,
                max_length=256,
            ).predict(questions)
        ]
        for batch_size in (1, 2, 3)
    ]
    assert texts[0] == texts[1] == texts[2]
    assert len(set(texts[0])) > 1
