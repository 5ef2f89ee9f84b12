"""The language stand-in: one model behind three front ends, and lessons that it learns from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calico.config import load_config
from calico.models.losses import compute_losses
from calico.standins.encoders import ENCODERS
from calico.standins.features import scene_features
from calico.standins.language import LOSSES, LanguageRun, build_models, make_tokenizer, train_language
from calico.standins.lessons import LESSON_SHARES, SceneIndex, draw_lesson
from calico.standins.presence import train_qformer
from calico.standins.prompts import LabelPrompts
from calico.standins.scenes import SceneSpec, load_pool
from calico.standins.scoring import Classroom, lesson_figures, to_batch

MODEL = load_config("tiny").model
RUN = LanguageRun(
    seed=0, num_scenes=60, num_steps=3, batch_size=2, prompt_steps=1, qformer_steps=4, vocabulary_size=640
)


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    """Return tokenizer, models and a classroom of a few scenes."""
    torch.manual_seed(0)
    pool = load_pool(tmp_path_factory.mktemp("pool"), SceneSpec("test", 5, 60, 0.3, 128), num_workers=1)
    names = ("vision_encoder", "clip", "grounding_encoder")
    encoders = {name: ENCODERS[name].build(MODEL).eval() for name in names}
    tokenizer = make_tokenizer(RUN.vocabulary_size)
    room = Classroom(SceneIndex(pool, []), scene_features(pool, encoders, MODEL))
    return tokenizer, build_models(MODEL, encoders, tokenizer), pool, room


def test_build_models_share_what_is_not_a_front_end(school):
    _, models, _, _ = school
    for name in ("language_model", "f_segmentation", "mask_decoder", "grounding_encoder"):
        assert len({id(getattr(model, name)) for model in models.values()}) == 1
    assert models["lisa"].clip is models["glamm"].clip
    assert not hasattr(models["calico"], "cams")


@pytest.mark.parametrize("variant", ["calico", "lisa", "glamm"])
@pytest.mark.parametrize("name", LESSON_SHARES)
def test_to_batch_every_model_takes_every_lesson(school, variant, name):
    tokenizer, models, _, room = school
    rng = np.random.default_rng(0)
    lessons = [draw_lesson(name, room.index, rng) for _ in range(2)]
    batch = to_batch(lessons, room.index, models[variant], tokenizer)
    scenes = [scene for lesson in lessons for scene in lesson.scenes]
    losses = compute_losses(models[variant](batch, room.features.of(variant, scenes)), batch, LOSSES)
    assert torch.isfinite(losses["total"])
    assert batch.input_ids_BL.shape[1] <= MODEL.language_model.max_length
    assert tokenizer.unk_token_id not in batch.input_ids_BL[batch.attention_mask_BL]


def test_train_language_changes_what_it_trains_and_nothing_else(school):
    tokenizer, models, _, room = school
    calico = models["calico"]
    before = {name: tensor.clone() for name, tensor in calico.state_dict().items()}
    prompts = LabelPrompts(MODEL.grounding.prompt_width)
    run = replace(RUN, variant_shares=(("calico", 1.0),))
    train_language({"calico": calico}, tokenizer, run, (room, room), prompts, report=print, report_every=100)
    changed = {
        name.split(".")[0] for name, value in calico.state_dict().items() if not value.equal(before[name])
    }
    assert changed == {
        "qformer",
        "f_image",
        "language_model",
        "f_segmentation",
        "mask_decoder",
    }
    is_lora_changed = any(
        not value.equal(before[name]) for name, value in calico.state_dict().items() if ".lora_" in name
    )
    assert not is_lora_changed


def test_train_qformer_changes_the_qformer_and_returns_a_share(school):
    _, models, pool, room = school
    qformer = models["calico"].qformer
    before = qformer.query_tokens.detach().clone()
    assert 0.0 <= train_qformer(qformer, pool, room.features, seed=0, num_steps=4) <= 1.0
    assert not torch.equal(qformer.query_tokens, before)


def test_lesson_figures_are_shares(school):
    tokenizer, models, _, room = school
    figures = lesson_figures(
        models["calico"], "calico", tokenizer, room, num_lessons=2, seed=0, max_new_tokens=4
    )
    assert set(figures) == {
        f"{name}/{key}"
        for name in LESSON_SHARES
        for key in ("exact", "label_recall", "mask_iou", "recall_50")
    }
    assert all(0.0 <= value <= 1.0 for value in figures.values())
