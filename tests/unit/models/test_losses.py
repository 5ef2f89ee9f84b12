"""Losses against torchvision, torch and hand-worked values."""

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from calico.config import LossSection
from calico.core.records import Batch
from calico.models.losses import Output, binary_cross_entropy, compute_losses, dice_loss, focal_loss


def test_focal_loss_is_torchvisions() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(4, 6, 6, generator=generator)
    target = (torch.rand(4, 6, 6, generator=generator) > 0.7).float()
    expected = sigmoid_focal_loss(logits, target, alpha=0.25, gamma=2.0).mean(dim=(1, 2))
    # Measured worst case 1.2e-7.
    torch.testing.assert_close(focal_loss(logits, target), expected, rtol=0, atol=1.2e-6)


def test_focal_loss_and_cross_entropy_at_logit_zero_with_5_percent_foreground() -> None:
    target = torch.zeros(1, 10, 10)
    target[0, 0, :5] = 1
    logits = torch.zeros(1, 10, 10)
    # ln 2 / 4 weighted .25 on 5 % and .75 on 95 %.
    assert focal_loss(logits, target).item() == pytest.approx(math.log(2) / 4 * (0.25 * 0.05 + 0.75 * 0.95))
    assert binary_cross_entropy(logits, target).item() == pytest.approx(math.log(2))


def test_losses_stay_finite_for_extreme_logits() -> None:
    logits = torch.tensor([[[-1e4, 1e4], [1e4, -1e4]]], requires_grad=True)
    target = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    loss = focal_loss(logits, target) + binary_cross_entropy(logits, target) + dice_loss(logits, target)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


def test_dice_loss_by_hand() -> None:
    target = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    perfect, wrong = 50 * (2 * target - 1), 50 * (1 - 2 * target)
    half = torch.zeros_like(target)  # overlap 2 * .5 * 2 = 2 of 2 + 2
    assert dice_loss(perfect, target).item() == pytest.approx(0.0, abs=1e-6)
    assert dice_loss(wrong, target).item() == pytest.approx(1.0, abs=1e-3)
    assert dice_loss(half, target).item() == pytest.approx(0.5, abs=1e-3)


def test_dice_loss_of_an_empty_target_is_one_unless_the_mask_is_empty() -> None:
    empty = torch.zeros(1, 64, 64)
    assert dice_loss(torch.zeros_like(empty), empty).item() == pytest.approx(1.0, abs=1e-3)
    assert dice_loss(torch.full_like(empty, -50.0), empty).item() == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(("kind", "function"), [("focal", focal_loss), ("bce", binary_cross_entropy)])
def test_the_total_weighs_text_masks_and_dice(kind: str, function: object) -> None:
    output, batch = _example(side=8)
    losses = compute_losses(output, batch, LossSection(text=1.0, mask=2.0, dice=0.5, mask_kind=kind))
    target = batch.target_masks_MSS.float()
    text = F.cross_entropy(output.text_logits_TV, output.text_labels_T)
    mask, dice = (
        function(output.mask_logits_MGG, target).mean(),
        dice_loss(output.mask_logits_MGG, target).mean(),
    )
    torch.testing.assert_close(losses["text"], text)
    torch.testing.assert_close(losses["mask"], mask)
    torch.testing.assert_close(losses["dice"], dice)
    torch.testing.assert_close(losses["total"], text + 2 * mask + 0.5 * dice)


def test_logits_are_brought_to_the_side_of_the_targets() -> None:
    output, batch = _example(side=16)
    losses = compute_losses(output, batch, LossSection(text=0.0, mask=1.0, dice=0.0, mask_kind="bce"))
    resized = F.interpolate(output.mask_logits_MGG[None], (16, 16), mode="bilinear")[0]
    expected = F.binary_cross_entropy_with_logits(resized, batch.target_masks_MSS.float())
    torch.testing.assert_close(losses["total"], expected)


def _example(*, side: int) -> tuple[Output, Batch]:
    generator = torch.Generator().manual_seed(1)
    output = Output(
        text_logits_TV=torch.randn(5, 11, generator=generator),
        text_labels_T=torch.tensor([3, 1, 4, 1, 5]),
        mask_logits_MGG=torch.randn(3, 8, 8, generator=generator),
        iou_M=torch.zeros(3),
    )
    nothing = torch.zeros(1, 1, dtype=torch.long)
    batch = Batch(
        input_ids_BL=nothing,
        attention_mask_BL=nothing.bool(),
        labels_BL=nothing,
        prompt_last_B=nothing[0],
        num_images_B=nothing[0],
        image_ids=(),
        original_size_I2=nothing,
        resized_size_I2=nothing,
        pair_ids=("pair",),
        target_masks_MSS=torch.randint(0, 2, (3, side, side), generator=generator).to(torch.uint8),
    )
    return output, batch
