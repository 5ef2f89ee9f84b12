"""CALICO learns four pairs by heart: data, model, losses, generation and masks belong together."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calico.assembly import ALIGNED_FILE, open_pretrained
from calico.checkpoints.loader import save_trained
from calico.checkpoints.prepare import prepare_checkpoints
from calico.config import PairCounts, SplitCounts, load_config
from calico.core import tables
from calico.core.masks import iou_matrix
from calico.core.records import Phrase
from calico.core.tokens import TASKS
from calico.data.annotations.unify import unify
from calico.data.pairs.conversation import choose_wording, render_answer, render_prompt
from calico.data.pairs.curate import curate
from calico.data.pairs.pairing import pair
from calico.data.synthetic.generate import synthesize
from calico.models.trainable import set_trainable
from calico.predictors.predict import ask, open_images, open_predictor
from calico.tracking import Run
from calico.training.finetune import finetune

pytestmark = pytest.mark.integration

NUM_IMAGES = SplitCounts(train=16, val=2, test=2)


def make_config():
    config = load_config("tiny")
    sources = dict.fromkeys(config.synthesize.num_images, NUM_IMAGES)
    counts = PairCounts(train=dict.fromkeys(TASKS, 6), val=0, test=0)
    changes = {
        "synthesize": {"num_images": sources, "num_grand_images": 0, "difficulty": 0.0},
        "pair": {"num_pairs": counts},
        "finetune": {"num_steps": 120, "batch_size": 4, "warmup_steps": 10, "validate_every": 0},
    }
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=values) for name, values in changes.items()}
    )


def prepare(config, artifacts_path):
    """Run the pipeline up to the alignment, which is left out, and keep four training pairs of all tasks."""
    synthesize(config.synthesize, artifacts_path / "sources", seed=config.synthesize.seed)
    unify(config.unify, artifacts_path / "sources", artifacts_path / "unify")
    curate(config.curate, artifacts_path / "unify", artifacts_path / "curate")
    pair(config.pair, artifacts_path / "unify", artifacts_path / "curate", artifacts_path / "pair")
    prepare_checkpoints(config.checkpoints, config.model, artifacts_path / "checkpoints")
    model = open_pretrained(config.model, "calico", artifacts_path).model
    set_trainable(model, "align")
    save_trained(model, artifacts_path / "align" / ALIGNED_FILE)
    train_path = artifacts_path / "pair" / "train.parquet"
    of_task = {task: [one for one in tables.read_pairs(train_path) if one.task == task] for task in TASKS}
    chosen = [*(found[0] for found in of_task.values()), of_task["common_parts"][1]]
    tables.write_pairs(train_path, chosen)
    return chosen


def true_masks(artifacts_path):
    unify_path = artifacts_path / "unify"
    objects = {one.object_id: one.rle for one in tables.read_objects(unify_path / "objects.parquet")}
    parts = {one.part_id: one.rle for one in tables.read_parts(unify_path / "parts.parquet")}
    return {**objects, **parts}


def questions_as_trained(pairs, images, seed):
    """Return each pair's question and answer in the words that were drawn for it in training."""
    questions, answers = ask(pairs, [one.image_ids for one in pairs], images), []
    for row, sample in enumerate(pairs):
        question_index, opener_index = choose_wording(sample.task, sample.pair_id, seed)
        prompt = render_prompt(sample.task, len(sample.image_ids), question_index=question_index)
        questions[row] = replace(questions[row], prompt=prompt)
        phrases = [Phrase(target.label, target.image_index) for target in sample.targets]
        answers.append(render_answer(sample.task, phrases, opener_index=opener_index))
    return questions, answers


def test_calico_learns_four_pairs_by_heart(tmp_path):
    torch.manual_seed(0)
    config = make_config()
    pairs = prepare(config, tmp_path)
    finetune(
        config, "calico", artifacts_path=tmp_path, output_path=tmp_path / "finetune" / "calico", run=Run()
    )
    images = open_images(config, "calico", tmp_path)
    predictor = open_predictor(config, "calico", tmp_path, images)
    questions, answers = questions_as_trained(pairs, images, config.finetune.seed)
    predictions = predictor.predict(questions)
    assert [prediction.answer.text for prediction in predictions] == answers
    masks = true_masks(tmp_path)
    ious = [
        iou_matrix([mask.rle], [masks[target.part_id or target.object_id]])[0, 0]
        for sample, prediction in zip(pairs, predictions, strict=True)
        for target, mask in zip(sample.targets, prediction.masks, strict=True)
    ]
    assert np.mean(ious) > 0.9, ious
