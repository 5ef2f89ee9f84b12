"""The stage predict: a finetuned model's answers to the test pairs, with their own and with other images."""

from collections.abc import Sequence
from pathlib import Path

from calico.assembly import open_finetuned, torch_settings
from calico.config import Config, VariantName
from calico.core import tables
from calico.core.records import PairSample
from calico.data.loading.dataset import ImageFolder
from calico.data.loading.feature_cache import FeatureCache
from calico.data.loading.views import view_sizes
from calico.data.pairs.conversation import render_prompt
from calico.predictors.lvlm import LvlmPredictor
from calico.predictors.protocol import Prediction, Question
from calico.predictors.shuffle import exchange_images
from calico.tracking import Run


def predict(
    config: Config, variant: VariantName, *, artifacts_path: Path, output_path: Path, run: Run
) -> None:
    """Answer the test pairs and write predictions.parquet and answers.parquet.

    The files that start with "shuffled_" hold the answers to the same questions with the images of other
    pairs; their masks have the size of the question's own images, so that they can be scored.

    Args:
        config: one profile.
        variant: which finetuned model.
        artifacts_path: the profile's artefacts: sources, unify, pair, checkpoints, align, finetune.
        output_path: folder to write to.
        run: receives the counts.

    Raises:
        CheckpointError: weights are missing or damaged.
        DataError: a table or an image is missing or damaged.
    """
    with torch_settings(config.runtime):
        pairs = sorted(
            tables.read_pairs(artifacts_path / "pair" / "test.parquet"),
            key=lambda pair: (pair.task, pair.pair_id),
        )
        images = open_images(config, variant, artifacts_path)
        predictor = open_predictor(config, variant, artifacts_path, pairs, images)
        shown = {
            "": [pair.image_ids for pair in pairs],
            "shuffled_": exchange_images(pairs, seed=config.predict.shuffle_seed),
        }
        for prefix, images_of_pairs in shown.items():
            predictions = predictor.predict(ask(pairs, images_of_pairs, images))
            _write(predictions, output_path, prefix)
            run.log_metrics({f"{prefix}{name}": value for name, value in _counts(predictions).items()})


def open_images(config: Config, variant: VariantName, artifacts_path: Path) -> ImageFolder:
    """Open the unified images with the views that a variant takes."""
    records = tables.read_images(artifacts_path / "unify" / "images.parquet")
    return ImageFolder(
        {record.image_id: record for record in records},
        artifacts_path / "sources",
        view_sizes(config.model, variant),
    )


def open_predictor(
    config: Config,
    variant: VariantName,
    artifacts_path: Path,
    pairs: Sequence[PairSample],
    images: ImageFolder,
) -> LvlmPredictor:
    """Open a finetuned model and encode every image of `pairs` once."""
    assembly = open_finetuned(config.model, variant, artifacts_path, runtime=config.runtime)
    image_ids = dict.fromkeys(image_id for pair in pairs for image_id in pair.image_ids)
    features = FeatureCache(
        ((image_id, images.views(image_id)) for image_id in image_ids),
        assembly.model.encode_images,
        batch_size=config.predict.batch_size,
    )
    return LvlmPredictor(
        assembly.model,
        assembly.tokenizer,
        config.predict,
        features=features,
        grounding_px=images.grounding_px,
        max_length=config.model.language_model.max_length,
    )


def ask(pairs: Sequence[PairSample], shown: Sequence[tuple[str, ...]], images: ImageFolder) -> list[Question]:
    """Return each pair's question about the images in `shown`, masks at the size of the pair's own images."""
    return [_question(pair, image_ids, images) for pair, image_ids in zip(pairs, shown, strict=True)]


def _question(pair: PairSample, shown: tuple[str, ...], images: ImageFolder) -> Question:
    return Question(
        pair_id=pair.pair_id,
        task=pair.task,
        prompt=render_prompt(pair.task, len(shown)),
        image_ids=shown,
        image_sizes=_sizes(shown, images),
        mask_sizes=_sizes(pair.image_ids, images),
    )


def _sizes(image_ids: Sequence[str], images: ImageFolder) -> tuple[tuple[int, int], ...]:
    return tuple((record.height, record.width) for record in map(images.record, image_ids))


def _write(predictions: Sequence[Prediction], output_path: Path, prefix: str) -> None:
    masks = [mask for prediction in predictions for mask in prediction.masks]
    masks.sort(key=lambda mask: (mask.pair_id, mask.image_index, mask.label))
    answers = sorted((prediction.answer for prediction in predictions), key=lambda answer: answer.pair_id)
    tables.write_predictions(output_path / f"{prefix}predictions.parquet", masks)
    tables.write_answers(output_path / f"{prefix}answers.parquet", answers)


def _counts(predictions: Sequence[Prediction]) -> dict[str, float]:
    return {
        "num_pairs": len(predictions),
        "num_masks": sum(len(prediction.masks) for prediction in predictions),
        "num_malformed": sum(prediction.answer.num_malformed for prediction in predictions),
    }
