import torch

from calico.core.records import ImageFeatures
from calico.predictors.features import FeaturesOnDemand


class Batch:
    def __init__(self, *image_ids):
        self.image_ids = image_ids


class Encoder:
    def __init__(self, has_semantic=True):
        self.encoded = []
        self.has_semantic = has_semantic

    def __call__(self, views):
        value = views["global"].mean(dim=(1, 2, 3))
        self.encoded.append(value.tolist())
        features = value[:, None, None]
        return ImageFeatures(features, features[..., None], features if self.has_semantic else None)


def views(image_id):
    return {"global": torch.full((3, 2, 2), float(image_id))}


def test_each_image_is_encoded_alone_and_once():
    encoder = Encoder()
    features = FeaturesOnDemand(views, encoder)
    assert features(Batch("1", "2", "1")).global_IPF.flatten().tolist() == [1.0, 2.0, 1.0]
    assert features(Batch("2", "3")).semantic_IPF.flatten().tolist() == [2.0, 3.0]
    assert encoder.encoded == [[1.0], [2.0], [3.0]]


def test_the_image_used_longest_ago_is_dropped():
    encoder = Encoder(has_semantic=False)
    features = FeaturesOnDemand(views, encoder, max_images=2)
    for image_id in ("1", "2", "1", "3", "1", "2"):
        assert features(Batch(image_id)).semantic_IPF is None
    assert encoder.encoded == [[1.0], [2.0], [3.0], [2.0]]
