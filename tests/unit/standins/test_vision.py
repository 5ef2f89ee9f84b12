"""Dense pretraining: targets, views equal to the data loader's, and a loss that falls."""

import numpy as np
import pytest
import torch

from calico.config import load_config
from calico.data.loading.views import ViewSizes, make_views
from calico.standins.scenes import NO_PART, SceneSpec, load_pool, part_classes
from calico.standins.vision import (
    DenseRun,
    centre_labels,
    class_shares,
    draw_scenes,
    to_view,
    train_encoder,
)

MODEL = load_config("tiny").model


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return load_pool(tmp_path_factory.mktemp("pool"), SceneSpec("test", 2, 6, 0.3, 128), num_workers=1)


def test_class_shares_counts_pixels_and_ignores_those_without_part():
    parts_ITT = torch.zeros(1, 4, 4, dtype=torch.long)
    parts_ITT[0, :2, :2] = torch.tensor([[1, 1], [1, 2]])
    parts_ITT[0, 2:, 2:] = NO_PART
    shares_IPC = class_shares(parts_ITT, 2)
    assert shares_IPC.shape == (1, 4, 1 + len(part_classes()))
    assert shares_IPC[0, 0, :3].tolist() == [0.0, 0.75, 0.25]
    assert shares_IPC[0, 1, 0] == 1.0
    assert shares_IPC[0, 3].sum() == 0.0


def test_class_shares_side_that_does_not_divide_the_map():
    assert class_shares(torch.zeros(2, 64, 64, dtype=torch.long), 6).shape[:2] == (2, 36)


@pytest.mark.parametrize("view", ["global", "semantic", "grounding"])
def test_to_view_equals_the_data_loader(view):
    image_HWC = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    expected = make_views(image_HWC, ViewSizes(128, 128, 128))[view]
    images_ICHW = torch.from_numpy(image_HWC).permute(2, 0, 1)[None].float()
    # Measured: 2.4e-7, the rounding of float32.
    torch.testing.assert_close(to_view(images_ICHW, view, 128)[0], expected, atol=1e-5, rtol=0)


def test_draw_scenes_labels_stay_on_their_pixels(pool):
    """Mirroring moves image and labels alike; colours change, but equal pixels stay equal."""
    chosen = [0, 1, 2, 3] * 4
    images_ICHW, parts_ITT, objects_ITT = draw_scenes(pool, np.random.default_rng(0), chosen)
    for row, scene in enumerate(chosen):
        is_same = np.array_equal(parts_ITT[row], pool.parts_STT[scene])
        is_mirrored = np.array_equal(parts_ITT[row], pool.parts_STT[scene][:, ::-1])
        assert is_same or is_mirrored
        direction = 1 if is_same else -1
        np.testing.assert_array_equal(objects_ITT[row], pool.objects_STT[scene][:, ::direction])
        original = pool.images_SHWC[scene][:, ::direction].astype(float).std(axis=(0, 1))
        changed = images_ICHW[row].numpy().std(axis=(1, 2))
        np.testing.assert_allclose(np.sort(changed), np.sort(original), rtol=1e-4)


def test_train_encoder_loss_falls(pool):
    reports = []
    run = DenseRun(seed=0, num_steps=24, batch_size=4, sides_px=(128, 96))
    _, figures = train_encoder(
        "clip", MODEL, run, pool, pool, report=lambda step, _, found: reports.append(found), report_every=8
    )
    assert reports[-1]["loss"] < 0.95 * reports[0]["loss"]
    assert set(figures) == {"dense_miou_128_px", "dense_miou_96_px"}
    assert all(0.0 <= value <= 1.0 for value in figures.values())


def test_centre_labels_takes_the_centre_of_each_square():
    labels_ITT = torch.arange(16).view(1, 4, 4)
    assert centre_labels(labels_ITT, 2).tolist() == [[[5, 7], [13, 15]]]
    assert centre_labels(labels_ITT, 4).equal(labels_ITT)


def test_train_encoder_stop_step_ends_a_longer_schedule(pool):
    steps = []
    run = DenseRun(seed=0, num_steps=1000, stop_step=2, batch_size=2, cells_per_token=2)
    train_encoder(
        "grounding_encoder", MODEL, run, pool, pool, report=lambda *r: steps.append(r[0]), report_every=1
    )
    assert steps == [1, 2]
