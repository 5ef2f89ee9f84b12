"""What a training loop draws from: batches by sample index, and the features of their images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from calico.core.records import Batch, ImageFeatures
from calico.data.loading.collate import collate
from calico.data.loading.dataset import CaptionDataset, PairDataset, iterate_views
from calico.data.loading.feature_cache import FeatureCache
from calico.models.model import SegmentingModel


@dataclass(frozen=True)
class Samples:
    """Samples, as the loop sees them.

    Attributes:
        sizes: one number per sample that grows with its token count.
        batch: makes the batch of the samples with the given indices.
        features: gives the frozen encoders' features of a batch's images.
    """

    sizes: Sequence[int]
    batch: Callable[[Sequence[int]], Batch]
    features: Callable[[Batch], ImageFeatures]


def make_samples(
    dataset: PairDataset | CaptionDataset,
    sizes: Sequence[int],
    model: SegmentingModel,
    *,
    pad_id: int,
    num_cached_at_once: int | None,
) -> Samples:
    """Connect a data set and a model's frozen encoders to the loop.

    Args:
        dataset: built with views where `num_cached_at_once` is None.
        sizes: see `Samples`.
        model: on the device where it will train.
        pad_id: token id for padding.
        num_cached_at_once: images per pass of the encoders when every image is encoded before training and
            its features stay in memory; None encodes the images of each batch when it is drawn.
    """

    def batch(indices: Sequence[int]) -> Batch:
        return collate([dataset[index] for index in indices], pad_id=pad_id, seg_id=model.seg_id)

    if num_cached_at_once is None:
        return Samples(sizes, batch, lambda drawn: model.encode_images(drawn.views))
    features = FeatureCache(iterate_views(dataset), model.encode_images, batch_size=num_cached_at_once)
    return Samples(sizes, batch, features)
