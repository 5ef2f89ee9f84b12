"""The stage predict: a finetuned model's answers to the test pairs, with their own and with other images.

The questions are cut into shards of fixed size, and every shard is answered by itself: its batches depend on
neither the other shards nor the number of processes, so neither do the bytes of the result.
"""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch

from calico.assembly import open_finetuned, torch_settings
from calico.config import Config, VariantName
from calico.core import tables
from calico.core.files import sha256_of
from calico.core.records import PairSample
from calico.data.loading.image_folder import ImageFolder, open_image_folder
from calico.data.loading.views import view_sizes
from calico.data.pairs.conversation import render_prompt
from calico.errors import DataError
from calico.predictors.features import FeaturesOnDemand
from calico.predictors.lvlm import LvlmPredictor
from calico.predictors.protocol import Prediction, Question
from calico.predictors.shards import ShardFolder
from calico.predictors.shuffle import exchange_images
from calico.tracking import Run

_PREFIXES = ("", "shuffled_")


@dataclass(frozen=True)
class _Job:
    """What a process needs to answer shards; it can be sent to another process."""

    config: Config
    variant: VariantName
    artifacts_path: Path
    folder: ShardFolder


def predict(
    config: Config,
    variant: VariantName,
    *,
    artifacts_path: Path,
    output_path: Path,
    run: Run,
    with_shuffled: bool = True,
) -> None:
    """Answer the test pairs and write predictions.parquet and answers.parquet.

    The files that start with "shuffled_" hold the answers to the same questions with the images of other
    pairs; their masks have the size of the question's own images, so that they can be scored. A run that was
    interrupted goes on after its last finished shard.

    Args:
        config: one profile.
        variant: which finetuned model.
        artifacts_path: the profile's artefacts: sources, unify, pair, checkpoints, align, finetune.
        output_path: folder to write to.
        run: receives the counts.
        with_shuffled: also answer with the images of other pairs.

    Raises:
        CheckpointError: weights are missing or damaged.
        DataError: a table or an image is missing or damaged, or a process of several was killed.
    """
    pairs = read_test_pairs(artifacts_path)
    folder = ShardFolder.of_run(
        artifacts_path / "runs", f"predict-{variant}", _identity(config, variant, artifacts_path)
    )
    job = _Job(config, variant, artifacts_path, folder)
    shards = _cut(len(pairs), config.predict.shard_size)
    prefixes = _PREFIXES if with_shuffled else _PREFIXES[:1]
    _answer_missing(job, folder.missing(len(prefixes) * len(shards)))
    for number, prefix in enumerate(prefixes):
        predictions = [
            prediction
            for row, shard in enumerate(shards)
            for prediction in folder.read(number * len(shards) + row, [pair.pair_id for pair in pairs[shard]])
        ]
        _write(predictions, output_path, prefix)
        run.log_metrics({f"{prefix}{name}": value for name, value in _counts(predictions).items()})
    folder.remove()


def read_test_pairs(artifacts_path: Path) -> list[PairSample]:
    """Read the test pairs in the order in which they are asked."""
    pairs = tables.read_pairs(artifacts_path / "pair" / "test.parquet")
    return sorted(pairs, key=lambda pair: (pair.task, pair.pair_id))


def open_images(config: Config, variant: VariantName, artifacts_path: Path) -> ImageFolder:
    """Open the unified images with the views that a variant takes."""
    return open_image_folder(
        artifacts_path / "unify", artifacts_path / "sources", view_sizes(config.model, variant)
    )


def open_predictor(
    config: Config, variant: VariantName, artifacts_path: Path, images: ImageFolder
) -> LvlmPredictor:
    """Open a finetuned model that encodes an image when it is first asked about."""
    assembly = open_finetuned(config.model, variant, artifacts_path, runtime=config.runtime)
    return LvlmPredictor(
        assembly.model,
        assembly.tokenizer,
        config.predict,
        features=FeaturesOnDemand(images.views, assembly.model.encode_images),
        grounding_px=images.grounding_px,
        max_length=config.model.language_model.max_length,
    )


def ask(pairs: Sequence[PairSample], shown: Sequence[tuple[str, ...]], images: ImageFolder) -> list[Question]:
    """Return each pair's question about the images in `shown`, masks at the size of the pair's own images."""
    return [_question(pair, image_ids, images) for pair, image_ids in zip(pairs, shown, strict=True)]


def _identity(config: Config, variant: VariantName, artifacts_path: Path) -> dict[str, object]:
    """Return all that decides the predictions; the finetuned manifest names every weight file's sha256."""
    inputs = (f"finetune/{variant}/manifest.json", "pair/test.parquet", "unify/images.parquet")
    return {
        "model": config.model.model_dump(),
        "predict": config.predict.model_dump(exclude={"num_processes"}),
        "runtime": config.runtime.model_dump(),
        "inputs": {
            name: sha256_of(artifacts_path / name) for name in inputs if (artifacts_path / name).is_file()
        },
    }


def _cut(num_pairs: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, num_pairs, size)]


def _answer_missing(job: _Job, missing: Sequence[int]) -> None:
    """Answer shards here, or deal them out to as many processes as the section asks for."""
    num_processes = min(job.config.predict.num_processes, len(missing))
    if num_processes <= 1:
        _answer_shards(job, missing, 0)
        return
    # Spawned, not forked: CUDA does not survive a fork.
    with ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [
            pool.submit(_answer_shards, job, missing[process::num_processes], process)
            for process in range(num_processes)
        ]
        try:
            for future in futures:
                future.result()
        except BrokenProcessPool as error:
            raise DataError(
                f"one of {num_processes} predicting processes was killed, perhaps for memory. Run the stage "
                "again, it keeps the finished shards; set predict.num_processes lower if it happens again."
            ) from error


def _answer_shards(job: _Job, indices: Sequence[int], process: int) -> None:
    """Open the model once and answer some shards, each written as soon as it is done."""
    if not indices:
        return
    if job.config.runtime.device == "cuda":
        torch.cuda.set_device(process % torch.cuda.device_count())
    with torch_settings(job.config.runtime):
        pairs = read_test_pairs(job.artifacts_path)
        exchanged = exchange_images(pairs, seed=job.config.predict.shuffle_seed)
        shown = ([pair.image_ids for pair in pairs], exchanged)
        shards = _cut(len(pairs), job.config.predict.shard_size)
        images = open_images(job.config, job.variant, job.artifacts_path)
        predictor = open_predictor(job.config, job.variant, job.artifacts_path, images)
        for index in indices:
            number, row = divmod(index, len(shards))
            questions = ask(pairs[shards[row]], shown[number][shards[row]], images)
            job.folder.write(index, predictor.predict(questions))


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
