"""Predicting in several processes gives the bytes of predicting in one."""

from itertools import pairwise

import pytest
import torch

from calico.assembly import open_pretrained
from calico.checkpoints.layout import component_path
from calico.checkpoints.loader import save_component
from calico.core import tables
from calico.data.pairs.conversation import render_prompt
from calico.language_models.tokenizer import encode_prompt
from calico.predictors.predict import predict
from calico.tracking import Run
from tests.small_artifacts import small_config, write_checkpoints, write_finetuned, write_tables

pytestmark = pytest.mark.integration

ANSWER = " I see <p> the dog </p> [SEG] (IMAGE2)."


def teach_one_sentence(artifacts_path, config):
    """Let every word of a sentence call for the next one, so that random weights give masks.

    The model runs in other processes, so it must be taught in its weights. A word's embedding outweighs what
    the layers add to it; what they add still differs from pair to pair.
    """
    assembly = open_pretrained(config.model, "calico", artifacts_path)
    prompt = encode_prompt(assembly.tokenizer, render_prompt("common_parts", 2), 1)
    sentence = assembly.tokenizer(ANSWER, add_special_tokens=False)["input_ids"]
    chain = [prompt[-1], *sentence, assembly.tokenizer.eos_token_id]
    assert len(set(chain)) == len(chain) <= config.model.language_model.hidden_size
    stock = assembly.model.language_model.stock
    with torch.no_grad():
        for axis, (token, following) in enumerate(pairwise(chain)):
            stock.model.embed_tokens.weight[token] = 0.0
            stock.model.embed_tokens.weight[token, axis] = 30.0
            stock.lm_head.weight[following] = 0.0
            stock.lm_head.weight[following, axis] = 10.0
    path = component_path(artifacts_path / "checkpoints", "language_model")
    save_component(assembly.model.components["language_model"], path)


def test_the_number_of_processes_changes_no_byte(tmp_path):
    config = small_config()
    write_tables(tmp_path)
    write_checkpoints(tmp_path, config)
    teach_one_sentence(tmp_path, config)
    write_finetuned(tmp_path, config, "calico")
    for num_processes in (1, 2):
        section = config.predict.model_copy(
            update={"shard_size": 5, "num_processes": num_processes, "max_new_tokens": 30}
        )
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
    masks = tables.read_predictions(tmp_path / "1" / "predictions.parquet")
    assert [mask.label for mask in masks] == ["dog"] * 18
    assert len({mask.rle for mask in masks}) > 3
