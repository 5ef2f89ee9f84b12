"""calico.data.loading.dataset: row i is sample i, with one [SEG], one mask and one label each."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from calico.core.records import Target
from calico.core.tokens import IGNORE_LABEL_ID, IMAGE_TOKEN_ID, SEG
from calico.data.loading.dataset import build_caption_dataset, build_pair_dataset
from calico.data.loading.views import frame_mask
from calico.data.pairs.conversation import parse_answer
from calico.errors import AlignmentError, DataError
from calico.language_models.tokenizer import tokens_per_image


def pairs(data: Any, variant: str = "calico", **changes: Any) -> Any:
    options = {
        "tokenizer": data.tokenizer,
        "model": data.model,
        "variant": variant,
        "mask_loss_px": 64,
        "seed": 5,
    }
    return build_pair_dataset(data.unify_path, data.sources_path, data.pairs_path, **(options | changes))


def captions(data: Any, **changes: Any) -> Any:
    options = {
        "tokenizer": data.tokenizer,
        "model": data.model,
        "variant": "calico",
        "mask_loss_px": 64,
        "seed": 5,
    }
    return build_caption_dataset(data.unify_path, data.sources_path, **(options | changes))


@pytest.mark.parametrize("variant", ["calico", "lisa", "glamm"])
@pytest.mark.parametrize("index", range(5))
def test_row_holds_the_sample(variant: str, index: int, small_data: Any) -> None:
    dataset = pairs(small_data, variant)
    sample, example = dataset.samples[index], dataset[index]
    assert (example.sample_id, example.image_ids) == (sample.pair_id, sample.image_ids)
    num_images = len(sample.image_ids)
    assert example.input_ids.count(IMAGE_TOKEN_ID) == num_images * tokens_per_image(small_data.model, variant)
    supervised = [label for label in example.labels if label != IGNORE_LABEL_ID]
    assert example.input_ids[example.prompt_last + 1 :] == supervised
    parsed = parse_answer(small_data.tokenizer.decode(supervised), num_images)
    assert [(phrase.label, phrase.image_index) for phrase, _ in parsed.phrases] == [
        (target.label, target.image_index) for target in sample.targets
    ]
    assert parsed.num_seg == len(example.target_masks_MSS)
    assert example.mask_image_index == tuple(target.image_index for target in sample.targets)
    for mask_SS, target in zip(example.target_masks_MSS, sample.targets, strict=True):
        expected = frame_mask(small_data.masks_HW[target.part_id or target.object_id], 64)
        assert (mask_SS.numpy() == expected).all()


def test_sizes_and_views_are_those_of_the_images(small_data: Any) -> None:
    example = pairs(small_data)[0]
    assert example.original_sizes == ((40, 60), (60, 40))
    assert example.resized_sizes == ((85, 128), (128, 85))
    assert [set(views) for views in example.views] == [{"global", "semantic", "grounding"}] * 2
    grounding_CHW = example.views[0]["grounding"]
    assert grounding_CHW[:, :85].ne(0).any()
    assert not grounding_CHW[:, 85:].any()


def test_without_views_no_image_is_opened(small_data: Any, tmp_path: Any) -> None:
    dataset = build_pair_dataset(
        small_data.unify_path, tmp_path / "nowhere", small_data.pairs_path, tokenizer=small_data.tokenizer,
        model=small_data.model, variant="calico", mask_loss_px=64, seed=5, with_views=False,
    )  # fmt: skip
    assert dataset[0].views == ()
    with pytest.raises(DataError, match=r"a/0\.png: no such image file"):
        dataset.images.views("a/0")


def test_rows_do_not_depend_on_order_or_on_each_other(small_data: Any) -> None:
    first, second = pairs(small_data), pairs(small_data)
    forward = [first[index] for index in range(len(first))]
    backward = [second[index] for index in reversed(range(len(second)))][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert one.input_ids == other.input_ids
        assert torch.equal(one.target_masks_MSS, other.target_masks_MSS)


def test_seed_changes_the_wording_and_none_gives_that_of_evaluation(small_data: Any) -> None:
    def prompts(seed: int | None) -> list[str]:
        dataset = pairs(small_data, seed=seed, with_views=False)
        rows = [[token for token in dataset[index].input_ids if token >= 0] for index in range(5)]
        return small_data.tokenizer.batch_decode(rows)

    texts = {seed: prompts(seed) for seed in (1, 2, None)}
    assert texts[1] != texts[2]
    assert "Can you segment the common object in these images?" in texts[None][0]
    assert "The common object is" in texts[None][0]


def test_unique_images_are_listed_once(small_data: Any) -> None:
    dataset = pairs(small_data, with_views=False)
    assert dataset.image_ids == ("a/0", "a/1", "a/2")
    expected = pairs(small_data)[0].views[1]
    assert all(torch.equal(dataset.images.views("a/1")[name], view) for name, view in expected.items())


def test_samples_can_be_exchanged(small_data: Any) -> None:
    dataset = pairs(small_data, with_views=False)
    swapped = dataset.with_samples([replace(dataset.samples[0], image_ids=("a/2", "a/0"))])
    assert (len(swapped), swapped[0].image_ids) == (1, ("a/2", "a/0"))
    assert swapped[0].input_ids == dataset[0].input_ids


def test_captions_become_examples(small_data: Any) -> None:
    dataset = captions(small_data)
    example, plain = dataset[0], dataset[1]
    assert (len(dataset), dataset.image_ids) == (2, ("a/1",))
    assert (example.sample_id, plain.sample_id) == ("a/1@0", "a/1@1")
    text = small_data.tokenizer.decode([label for label in example.labels if label != IGNORE_LABEL_ID])
    assert text.strip() == "<p> A dog </p> [SEG] (IMAGE1) with <p> the dog's head </p> [SEG] (IMAGE1).</s>"
    assert [int(mask.sum()) for mask in example.target_masks_MSS] == [
        frame_mask(small_data.masks_HW[name], 64).sum() for name in ("a/1#0", "a/1#0/head")
    ]
    assert plain.target_masks_MSS.shape == (0, 64, 64)


def test_too_long_samples_are_refused_not_cut(small_data: Any) -> None:
    language_model = small_data.model.language_model.model_copy(update={"max_length": 40})
    model = small_data.model.model_copy(update={"language_model": language_model})
    with pytest.raises(
        AlignmentError, match=r"'p0': \d+ tokens, but model\.language_model\.max_length is 40"
    ):
        pairs(small_data, model=model)[0]


def test_missing_image_and_mask_are_named(small_data: Any) -> None:
    dataset = pairs(small_data, with_views=False)
    broken = replace(dataset.samples[0], image_ids=("a/0", "a/77"))
    with pytest.raises(DataError, match=r"image 'a/77' is in a sample but not in images\.parquet"):
        dataset.with_samples([broken])[0]
    broken = replace(dataset.samples[0], targets=(Target(0, "dog", "a/0#9", None),))
    with pytest.raises(DataError, match="mask 'a/0#9' is in a sample but not in the unified tables"):
        dataset.with_samples([broken])[0]


def test_changed_image_is_refused(small_data: Any, tmp_path: Any) -> None:
    from PIL import Image

    (tmp_path / "a").mkdir()
    Image.fromarray(np.zeros((7, 7, 3), dtype=np.uint8)).save(tmp_path / "a" / "0.png")
    dataset = build_pair_dataset(
        small_data.unify_path, tmp_path, small_data.pairs_path, tokenizer=small_data.tokenizer,
        model=small_data.model, variant="calico", mask_loss_px=64, seed=5,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"a/0\.png: the file has 7 x 7 pixels, its annotation 40 x 60"):
        dataset[0]


def test_seg_is_one_token(small_data: Any) -> None:
    seg_id = small_data.tokenizer.convert_tokens_to_ids(SEG)
    assert pairs(small_data)[1].labels.count(seg_id) == 4
