import logging
import os
from types import SimpleNamespace

import pytest
import torch

from calico.core.records import ImageFeatures
from calico.data.loading.feature_cache import FeatureCache, FeaturesOrEncoder, count_cached
from calico.data.loading.feature_store import FeatureStore, open_store, store_key
from calico.errors import DataError

IDS = tuple(f"image {number}" for number in range(5))


class Images:
    """Five images whose pixels are their number."""

    def __init__(self):
        self.changes = dict.fromkeys(IDS, 0)

    def views(self, image_id):
        return {"global": torch.full((3, 2, 2), float(IDS.index(image_id)))}

    def file_state(self, image_id):
        return (12, self.changes[image_id])


class Encoder:
    """Features that tell the image, and how many images were encoded at once."""

    def __init__(self):
        self.batch_sizes = []

    def __call__(self, views):
        pixels_I11 = views["global"][:, 0, :1, :1].to(torch.bfloat16)
        self.batch_sizes.append(len(pixels_I11))
        return ImageFeatures(pixels_I11, 2 * pixels_I11[..., None], 3 * pixels_I11)


def make_store(folder, images=None, count=5):
    return FeatureStore(folder, images or Images(), IDS[:count], batch_size=2)


def numbers(features):
    return [
        tensor.flatten().tolist()
        for tensor in (features.global_IPF, features.grounding_ICGG, features.semantic_IPF)
    ]


def batch(*rows):
    return SimpleNamespace(image_ids=tuple(IDS[row] for row in rows))


def test_a_second_run_encodes_nothing_and_reads_the_same_numbers(tmp_path):
    encoder = Encoder()
    assert make_store(tmp_path).fill(encoder, rank=0, world_size=1) == 5
    assert encoder.batch_sizes == [2, 2, 1]
    again = make_store(tmp_path)
    assert again.fill(encoder, rank=0, world_size=1) == 0
    features = again.rows([IDS[4], IDS[0], IDS[4], IDS[3]])
    assert features.global_IPF.dtype == torch.bfloat16
    assert numbers(features) == [[4, 0, 4, 3], [8, 0, 8, 6], [12, 0, 12, 9]]


def test_processes_share_the_encoding(tmp_path):
    encoded = [make_store(tmp_path).fill(Encoder(), rank=rank, world_size=2) for rank in range(2)]
    assert encoded == [3, 2]
    assert numbers(make_store(tmp_path).rows(IDS))[0] == [0, 1, 2, 3, 4]


def test_memory_and_disk_hold_the_same_numbers(tmp_path):
    store = make_store(tmp_path)
    store.fill(Encoder(), rank=0, world_size=1)
    cache = FeatureCache(((one, Images().views(one)) for one in IDS), Encoder(), batch_size=2)
    assert numbers(store.rows(IDS)) == numbers(cache.rows(IDS))


def test_a_changed_image_is_encoded_again_with_its_batch(tmp_path):
    make_store(tmp_path).fill(Encoder(), rank=0, world_size=1)
    images = Images()
    images.changes[IDS[2]] = 1
    assert make_store(tmp_path, images).fill(Encoder(), rank=0, world_size=1) == 2


def test_any_flipped_bit_is_found(tmp_path, caplog):
    make_store(tmp_path).fill(Encoder(), rank=0, world_size=1)
    path = tmp_path / "00000000.safetensors"
    content = path.read_bytes()
    good = numbers(make_store(tmp_path).rows(IDS[:2]))
    found = {"on opening": 0, "when read": 0}
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(bytes(damaged))
        store = make_store(tmp_path)
        with caplog.at_level(logging.WARNING):
            if store.fill(Encoder(), rank=0, world_size=1):
                found["on opening"] += 1
                assert numbers(make_store(tmp_path).rows(IDS[:2])) == good
                continue
        with pytest.raises(DataError, match=r"00000000.safetensors: missing or damaged \("):
            store.rows(IDS[:2])
        found["when read"] += 1
    assert min(found.values()) > 10


def test_images_beyond_the_limit_are_encoded_when_drawn(tmp_path):
    encoder = Encoder()
    # 3 numbers of 2 bytes an image: the limit has room for 3 images, that is for one batch of two.
    store = open_store(tmp_path, Images(), IDS, encoder, batch_size=2, max_bytes=20)
    assert [image_id in store for image_id in IDS] == [True, True, False, False, False]
    store.fill(encoder, rank=0, world_size=1)
    features = FeaturesOrEncoder(store, Images().views, encoder)
    encoder.batch_sizes.clear()
    assert numbers(features(batch(1, 4, 0, 4)))[0] == [1, 4, 0, 4]
    assert encoder.batch_sizes == [1]
    assert numbers(features(batch(0, 1)))[0] == [0, 1]
    assert numbers(features(batch(3, 2)))[0] == [3, 2]
    assert encoder.batch_sizes == [1, 2]


def test_a_limit_below_one_batch_caches_nothing():
    encoder = Encoder()
    features = FeaturesOrEncoder(FeatureCache([], encoder, batch_size=2), Images().views, encoder)
    assert numbers(features(batch(3, 1)))[0] == [3, 1]


@pytest.mark.parametrize(("max_bytes", "count"), [(50, 5), (49, 4), (39, 2), (19, 0)])
def test_whole_batches_are_cached(max_bytes, count):
    assert count_cached(5, 10, batch_size=2, max_bytes=max_bytes) == count


def test_a_disk_without_room_is_refused_before_anything_is_encoded(tmp_path, monkeypatch):
    monkeypatch.setattr("calico.data.loading.feature_store.free_bytes", lambda path: 29)
    with pytest.raises(DataError, match=r"the features of 5 images need .* lower feature_cache_gb"):
        open_store(tmp_path, Images(), IDS, Encoder(), batch_size=2, max_bytes=1000)
    assert not os.listdir(tmp_path)


def test_other_facts_have_another_key():
    assert store_key({"weights": "a", "views": "b"}) == store_key({"views": "b", "weights": "a"})
    assert store_key({"weights": "a"}) != store_key({"weights": "b"})
