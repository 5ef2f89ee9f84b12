import pytest
import torch

from calico.core.records import Batch, ImageFeatures
from calico.data.loading.feature_cache import FeatureCache


class CountingEncoder:
    """Features that tell the image: its first pixel, in every tensor."""

    def __init__(self, has_semantic):
        self.has_semantic = has_semantic
        self.batch_sizes = []

    def __call__(self, views):
        pixels_I11 = views["global"][:, 0, :1, :1]
        self.batch_sizes.append(len(pixels_I11))
        semantic = 3 * pixels_I11 if self.has_semantic else None
        return ImageFeatures(pixels_I11, 2 * pixels_I11[..., None], semantic)


def make_batch(image_ids):
    nothing = torch.zeros(1, 1)
    return Batch(nothing, nothing, nothing, nothing, nothing, tuple(image_ids), nothing, nothing, ("pair",))


@pytest.mark.parametrize("has_semantic", [True, False])
def test_features_follow_the_batch_and_each_image_is_encoded_once(has_semantic):
    encoder = CountingEncoder(has_semantic)
    images = [(f"image {number}", {"global": torch.full((3, 2, 2), float(number))}) for number in range(5)]
    cache = FeatureCache(images, encoder, batch_size=2)
    features = cache(make_batch(["image 4", "image 0", "image 4", "image 3"]))
    assert encoder.batch_sizes == [2, 2, 1]
    assert features.global_IPF.flatten().tolist() == [4, 0, 4, 3]
    assert features.grounding_ICGG.flatten().tolist() == [8, 0, 8, 6]
    if has_semantic:
        assert features.semantic_IPF.flatten().tolist() == [12, 0, 12, 9]
    else:
        assert features.semantic_IPF is None
