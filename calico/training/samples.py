"""What a training loop draws from: batches by sample index, and the features of their images."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from calico.config import TrainSection
from calico.core.records import Batch, ImageFeatures
from calico.data.loading.collate import collate
from calico.data.loading.dataset import CaptionDataset, Example, PairDataset
from calico.data.loading.feature_cache import (
    FeatureCache,
    Features,
    FeaturesOrEncoder,
    bytes_per_image,
    count_cached,
)
from calico.data.loading.feature_store import FeatureStore, open_store, store_key
from calico.data.loading.views import describe_views
from calico.errors import CalicoError
from calico.models.model import ENCODERS, SegmentingModel
from calico.training.engine import Engine

_NUM_BATCHES_AHEAD = 2  # of each worker

SampleData = PairDataset | CaptionDataset


@dataclass(frozen=True)
class Samples:
    """Samples, as the loop sees them.

    Attributes:
        sizes: one number per sample that grows with its token count.
        batches: makes the batches of the samples with the given indices, one after the other.
        features: gives the frozen encoders' features of a batch's images.
    """

    sizes: np.ndarray
    batches: Callable[[Iterable[Sequence[int]]], Iterator[Batch]]
    features: Callable[[Batch], ImageFeatures]


def make_batches(
    dataset: SampleData, index_groups: Iterable[Sequence[int]], *, pad_id: int, seg_id: int, num_workers: int
) -> Iterator[Batch]:
    """Make the batches of groups of sample indices, in their order whatever the number of workers.

    Args:
        dataset: read in the workers.
        index_groups: may be endless; it is read some batches ahead.
        pad_id, seg_id: see `collate`.
        num_workers: processes that make batches ahead; 0 makes each when it is asked for.

    Raises:
        CalicoError: a sample cannot be made; the one that its row raises.
    """
    make = partial(_collate_rows, pad_id=pad_id, seg_id=seg_id)
    if num_workers == 0:
        yield from (_checked(make([*map(_Rows(dataset).__getitem__, group)])) for group in index_groups)
        return
    loader: Any = DataLoader(
        _Rows(dataset),
        batch_sampler=index_groups,  # type: ignore[arg-type]  # any iterable will do
        collate_fn=make,
        num_workers=num_workers,
        prefetch_factor=_NUM_BATCHES_AHEAD,
        worker_init_fn=_leave_signals_to_the_trainer,
        generator=torch.Generator(),  # or it draws from the generator that the model's dropout uses
    )
    yield from map(_checked, loader)


def make_features(
    dataset: SampleData,
    model: SegmentingModel,
    section: TrainSection,
    engine: Engine,
    *,
    folder: Path,
    digests: dict[str, str],
) -> Callable[[Batch], ImageFeatures]:
    """Connect a model's frozen encoders to the loop, through the cache that `section` asks for.

    Args:
        dataset: built with views where `section.feature_cache` is "none".
        model: on the device where it will train.
        engine: its processes share the work of filling a cache on disk.
        folder: of the caches on disk.
        digests: sha256 of the weights by component.

    Raises:
        DataError: an image cannot be read, or the disk has too little room.
    """
    if section.feature_cache == "none":
        return lambda batch: model.encode_images(batch.views)
    images, image_ids = dataset.images, dataset.image_ids
    encode, size = model.encode_images, section.batch_size
    if section.feature_cache == "memory":
        per_image = bytes_per_image(images.views(image_ids[0]), encode)
        count = count_cached(
            len(image_ids), per_image, batch_size=size, max_bytes=int(section.feature_cache_gb * 1e9)
        )
        stream = ((image_id, images.views(image_id)) for image_id in image_ids[:count])
        cache: Features = FeatureCache(stream, encode, batch_size=size)
    else:
        cache = _filled_store(dataset, model, section, engine, folder=folder, digests=digests)
    if image_ids[-1] in cache:
        _leave_gpu(model)
    return FeaturesOrEncoder(cache, images.views, encode)


def _filled_store(
    dataset: SampleData,
    model: SegmentingModel,
    section: TrainSection,
    engine: Engine,
    *,
    folder: Path,
    digests: dict[str, str],
) -> FeatureStore:
    images, size = dataset.images, section.batch_size
    facts = {
        "weights": {name: digest for name, digest in digests.items() if name in ENCODERS},
        "views": describe_views(images.sizes),
        "computed": [str(model.dtype), engine.device.type, torch.__version__, size],
    }
    store = open_store(
        folder / store_key(facts),
        images,
        dataset.image_ids,
        model.encode_images,
        batch_size=size,
        max_bytes=int(section.feature_cache_gb * 1e9),
    )
    engine.wait_for_all()  # all have seen the same free space
    store.fill(model.encode_images, rank=engine.rank, world_size=engine.world_size)
    engine.wait_for_all()
    return store


def _leave_gpu(model: SegmentingModel) -> None:
    """Move the encoders, which no image needs any more, out of the way: 5.5 GB at the paper's size."""
    for name in ENCODERS:
        if name in model.components:
            model.components[name].to("cpu")


class _Rows(Dataset[Example | CalicoError]):
    """Rows, or why one cannot be made: a worker would wrap the error into its own traceback."""

    def __init__(self, dataset: SampleData) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Example | CalicoError:
        try:
            return self._dataset[index]
        except CalicoError as error:
            return error


def _collate_rows(rows: Sequence[Example | CalicoError], *, pad_id: int, seg_id: int) -> Batch | CalicoError:
    examples = []
    for row in rows:
        if isinstance(row, CalicoError):
            return row
        examples.append(row)
    try:
        return collate(examples, pad_id=pad_id, seg_id=seg_id)
    except CalicoError as error:
        return error


def _checked(batch: Batch | CalicoError) -> Batch:
    if isinstance(batch, CalicoError):
        raise batch
    return batch


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Let Ctrl-C, which reaches the whole process group, stop the trainer alone; it ends its workers."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
