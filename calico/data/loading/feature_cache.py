"""Features of the frozen encoders, computed once per image and kept in memory.

An image takes part in many pairs; encoding it for each of them would be most of the work of a small model.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from calico.core.records import Batch, ImageFeatures

Views = Mapping[str, Tensor]
Encode = Callable[[Views], ImageFeatures]


class Features(Protocol):
    """Features of some images, whether they lie in memory or on a disk."""

    def __contains__(self, image_id: str) -> bool: ...

    def rows(self, image_ids: Sequence[str]) -> ImageFeatures:
        """Return the features of images, all of which are in here, on the CPU, in that order."""
        ...


class FeatureCache:
    """The features of some images by image id, on the CPU, in the encoders' own precision."""

    def __init__(
        self, images: Iterable[tuple[str, Views]], encode_images: Encode, *, batch_size: int
    ) -> None:
        """Encode the images.

        Args:
            images: (image id, views) of each image once.
            encode_images: a model's `encode_images`.
            batch_size: images encoded at once.
        """
        stream = iter(images)
        self._row_of: dict[str, int] = {}
        encoded: list[ImageFeatures] = []
        while chunk := list(islice(stream, batch_size)):
            self._row_of |= {
                image_id: len(self._row_of) + offset for offset, (image_id, _) in enumerate(chunk)
            }
            encoded.append(encode_images(stack_views([views for _, views in chunk])).to("cpu"))
        self._features = ImageFeatures.join(encoded) if encoded else None

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._row_of

    def rows(self, image_ids: Sequence[str]) -> ImageFeatures:
        """Return the features of images, all of which are in here, in that order."""
        assert self._features is not None, "no image is in here"
        return self._features.rows(torch.tensor([self._row_of[image_id] for image_id in image_ids]))

    def __call__(self, batch: Batch) -> ImageFeatures:
        """Return the features of a batch's images, in packed order."""
        return self.rows(batch.image_ids)


class FeaturesOrEncoder:
    """Features from a cache; those of images beyond its limit from the encoders, each time they are drawn."""

    def __init__(self, cache: Features, views: Callable[[str], Views], encode_images: Encode) -> None:
        """Keep the three.

        Args:
            cache: holds some of the images.
            views: gives the views of any image, each (3, H, W).
            encode_images: a model's `encode_images`.
        """
        self._cache = cache
        self._views = views
        self._encode_images = encode_images

    def __call__(self, batch: Batch) -> ImageFeatures:
        """Return the features of a batch's images, in packed order."""
        missing = [image_id for image_id in dict.fromkeys(batch.image_ids) if image_id not in self._cache]
        if not missing:
            return self._cache.rows(batch.image_ids)
        fresh = self._encode_images(stack_views([self._views(image_id) for image_id in missing])).to("cpu")
        kept = [image_id for image_id in dict.fromkeys(batch.image_ids) if image_id in self._cache]
        parts = [fresh, self._cache.rows(kept)] if kept else [fresh]
        row_of = {image_id: row for row, image_id in enumerate([*missing, *kept])}
        return ImageFeatures.join(parts).rows(
            torch.tensor([row_of[image_id] for image_id in batch.image_ids])
        )


def count_cached(num_images: int, bytes_per_image: int, *, batch_size: int, max_bytes: int) -> int:
    """Return how many images fit into `max_bytes`: all, or whole batches of the first ones."""
    num_fitting = max_bytes // bytes_per_image
    return num_images if num_images <= num_fitting else num_fitting // batch_size * batch_size


def bytes_per_image(views: Views, encode_images: Encode) -> int:
    """Return the size of the features of one image with the given views, each (3, H, W)."""
    features = encode_images(stack_views([views]))
    tensors = [features.global_IPF, features.grounding_ICGG, features.semantic_IPF]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def stack_views(views: Sequence[Views]) -> dict[str, Tensor]:
    """Return the views of several images by name, each (I, 3, H, W)."""
    return {name: torch.stack([view[name] for view in views]) for name in views[0]}
