"""Features of the frozen encoders, computed once per image and kept in memory.

An image takes part in many pairs; encoding it for each of them would be most of the work of a small model.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor

from calico.core.records import Batch, ImageFeatures

Views = Mapping[str, Tensor]


class FeatureCache:
    """The features of some images by image id, on the CPU, in the encoders' own precision."""

    def __init__(
        self,
        images: Iterable[tuple[str, Views]],
        encode_images: Callable[[Views], ImageFeatures],
        *,
        batch_size: int,
    ) -> None:
        """Encode the images.

        Args:
            images: (image id, views) of each image once, as `iterate_views` gives them; at least one.
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
            encoded.append(encode_images(_stack([views for _, views in chunk])).to("cpu"))
        self._features = _concatenate(encoded)

    def __call__(self, batch: Batch) -> ImageFeatures:
        """Return the features of a batch's images, in packed order."""
        return self._features.rows(torch.tensor([self._row_of[image_id] for image_id in batch.image_ids]))


def _stack(views: Sequence[Views]) -> dict[str, Tensor]:
    return {name: torch.stack([view[name] for view in views]) for name in views[0]}


def _concatenate(chunks: Sequence[ImageFeatures]) -> ImageFeatures:
    semantic = [chunk.semantic_IPF for chunk in chunks if chunk.semantic_IPF is not None]
    return ImageFeatures(
        global_IPF=torch.cat([chunk.global_IPF for chunk in chunks]),
        grounding_ICGG=torch.cat([chunk.grounding_ICGG for chunk in chunks]),
        semantic_IPF=torch.cat(semantic) if semantic else None,
    )
