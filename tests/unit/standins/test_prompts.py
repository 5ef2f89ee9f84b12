"""Promptable masks: the list of masks, their IoU, and a loss that falls."""

import numpy as np
import pytest
import torch

from calico.config import load_config
from calico.models.mask_decoder import build_mask_decoder, build_prompt_encoder
from calico.standins.encoders import ENCODERS
from calico.standins.prompts import PromptRun, fit_label_prompts, mask_iou, scene_masks, train_prompts
from calico.standins.scenes import SceneSpec, load_pool, object_categories, part_classes

MODEL = load_config("tiny").model


def test_scene_masks_lists_objects_and_their_parts():
    parts_ITT, objects_ITT = np.zeros((1, 64, 64), np.uint8), np.zeros((1, 64, 64), np.uint8)
    head = 1 + part_classes().index(("dog", "head"))
    objects_ITT[0, :8, :8] = 1
    parts_ITT[0, :4, :8] = head
    dog = object_categories().index("dog")
    found = scene_masks(parts_ITT, objects_ITT, np.array([[dog + 1, 0, 0]], np.uint8))
    assert found.label_M.tolist() == [dog, len(object_categories()) + head - 1]
    assert found.scene_M.tolist() == [0, 0]
    assert found.masks_MTT.flatten(1).sum(dim=1).tolist() == [64.0, 32.0]


def test_mask_iou_of_overlapping_equal_and_empty_masks():
    first, second = torch.zeros(3, 4, 4, dtype=torch.bool), torch.zeros(3, 4, 4, dtype=torch.bool)
    first[0, :2], second[0, 1:3] = True, True
    first[1], second[1] = True, True
    assert mask_iou(first, second).tolist() == pytest.approx([1 / 3, 1.0, 0.0])


def test_train_prompts_loss_falls_and_figures_are_shares(tmp_path):
    pool = load_pool(tmp_path, SceneSpec("test", 4, 12, 0.3, 128), num_workers=1)
    torch.manual_seed(0)
    reports = []
    modules, figures = train_prompts(
        ENCODERS["grounding_encoder"].build(MODEL),
        MODEL,
        PromptRun(seed=0, num_steps=12, batch_size=2),
        pool,
        pool,
        report=lambda step, _, found: reports.append(found),
        report_every=6,
    )
    assert set(modules) == {"grounding_encoder", "prompt_encoder", "mask_decoder"}
    assert reports[-1]["loss"] < reports[0]["loss"]
    assert set(figures) == {"object_iou", "object_recall_50", "part_iou", "part_recall_50"}
    assert all(0.0 <= value <= 1.0 for value in figures.values())


def test_fit_label_prompts_changes_no_module(tmp_path):
    pool = load_pool(tmp_path, SceneSpec("test", 4, 12, 0.3, 128), num_workers=1)
    torch.manual_seed(0)
    modules = {
        "grounding_encoder": ENCODERS["grounding_encoder"].build(MODEL),
        "prompt_encoder": build_prompt_encoder(MODEL.grounding),
        "mask_decoder": build_mask_decoder(MODEL.grounding),
    }
    before = [value.clone() for module in modules.values() for value in module.state_dict().values()]
    prompts = fit_label_prompts(modules, MODEL.grounding.prompt_width, pool, seed=0, num_steps=2)
    after = [value for module in modules.values() for value in module.state_dict().values()]
    assert all(first.equal(second) for first, second in zip(before, after, strict=True))
    assert prompts.embedding.weight.shape == (
        len(object_categories()) + len(part_classes()),
        MODEL.grounding.prompt_width,
    )
    assert not prompts.embedding.weight.requires_grad
