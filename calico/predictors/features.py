"""Image features for predicting: one image is encoded at a time, so that none depends on the others."""

from collections import OrderedDict
from collections.abc import Callable, Mapping

from torch import Tensor

from calico.core.records import Batch, ImageFeatures

_MAX_IMAGES = 512  # at the paper's size 7 MB an image in float32

Views = Mapping[str, Tensor]


class FeaturesOnDemand:
    """Features by image id, on the CPU; those of the images used last are kept."""

    def __init__(
        self,
        views: Callable[[str], Views],
        encode_images: Callable[[Views], ImageFeatures],
        *,
        max_images: int = _MAX_IMAGES,
    ) -> None:
        """Keep the two functions; nothing is encoded yet.

        Args:
            views: gives the views of an image, each (3, H, W).
            encode_images: a model's `encode_images`.
            max_images: how many are kept.
        """
        self._views = views
        self._encode_images = encode_images
        self._max_images = max_images
        self._kept: OrderedDict[str, ImageFeatures] = OrderedDict()

    def __call__(self, batch: Batch) -> ImageFeatures:
        """Return the features of a batch's images, in packed order."""
        return ImageFeatures.join([self._features(image_id) for image_id in batch.image_ids])

    def _features(self, image_id: str) -> ImageFeatures:
        if image_id not in self._kept:
            views = {name: view[None] for name, view in self._views(image_id).items()}
            self._kept[image_id] = self._encode_images(views).to("cpu")
        self._kept.move_to_end(image_id)
        if len(self._kept) > self._max_images:
            self._kept.popitem(last=False)
        return self._kept[image_id]
