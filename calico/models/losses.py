"""The training objective of section 3.5."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from calico.config import LossSection
from calico.core.records import Batch
from calico.core.tokens import IGNORE_LABEL_ID

_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0
# GLaMM scales both sides of the Dice fraction down by this before adding epsilon.
_DICE_SCALE, _DICE_EPSILON = 1000.0, 1e-6


@dataclass(frozen=True)
class Output:
    """What a forward pass predicts.

    Attributes:
        text_logits_TV: vocabulary logits at the T supervised positions only.
        text_labels_T: the tokens to predict there.
        mask_logits_MGG: one mask per [SEG] of the answers.
        iou_M: SAM's own estimate of each mask's IoU; no loss uses it.
    """

    text_logits_TV: Tensor
    text_labels_T: Tensor
    mask_logits_MGG: Tensor
    iou_M: Tensor


def compute_losses(
    output: Output, batch: Batch, section: LossSection, *, share_2: Tensor | None = None
) -> dict[str, Tensor]:
    """Return "total" and its unweighted terms "text", "mask" and "dice".

    Args:
        share_2: weights of the batch's supervised tokens and of its masks, where it is one process's part of
            a micro-batch; see `count_terms`.

    Deviation: masks are compared in SAM's padded frame at `mask_loss_px`, not at each image's own resolution.

    Source: eq. 10 and 11; mbzuai-oryx/groundingLMM model/GLaMM.py for the reductions: the mean over all
    supervised tokens, and over all masks of the batch.
    """
    text = F.cross_entropy(output.text_logits_TV.float(), output.text_labels_T)
    mask, dice = _mask_losses(output.mask_logits_MGG.float(), batch.target_masks_MSS, section.mask_kind)
    if share_2 is not None:
        text, mask, dice = share_2[0] * text, share_2[1] * mask, share_2[1] * dice
    total = section.text * text + section.mask * mask + section.dice * dice
    return {"total": total, "text": text, "mask": mask, "dice": dice}


def count_terms(batch: Batch) -> Tensor:
    """Return how many supervised tokens and how many masks the losses of a batch are means over, float32."""
    num_masks = 0 if batch.target_masks_MSS is None else len(batch.target_masks_MSS)
    return torch.tensor([(batch.labels_BL != IGNORE_LABEL_ID).sum(), num_masks], dtype=torch.float32)


def _mask_losses(
    mask_logits_MGG: Tensor, target_masks_MSS: Tensor | None, kind: str
) -> tuple[Tensor, Tensor]:
    if target_masks_MSS is None or len(mask_logits_MGG) == 0:
        nothing = mask_logits_MGG.sum()
        return nothing, nothing
    target_MSS = target_masks_MSS.to(mask_logits_MGG)
    logits_MSS = at_target_size(mask_logits_MGG, target_MSS)
    pixel_loss = focal_loss if kind == "focal" else binary_cross_entropy
    return pixel_loss(logits_MSS, target_MSS).mean(), dice_loss(logits_MSS, target_MSS).mean()


def at_target_size(mask_logits_MGG: Tensor, target_MSS: Tensor) -> Tensor:
    """Return mask logits at the size of the true masks that they are compared with, (M, S, S)."""
    size = target_MSS.shape[-2:]
    if mask_logits_MGG.shape[-2:] == size:
        return mask_logits_MGG
    return F.interpolate(mask_logits_MGG[:, None], size, mode="bilinear")[:, 0]


def focal_loss(logits_MSS: Tensor, target_MSS: Tensor) -> Tensor:
    """Return the sigmoid focal loss of each mask, the mean over its pixels; alpha .25, gamma 2.

    Source: Lin et al., Focal Loss for Dense Object Detection, eq. 5.
    """
    # With z the logit for the true side, p_t = sigmoid(z): one softplus and one sigmoid per pixel.
    true_side_MSS = logits_MSS * (2 * target_MSS - 1)
    alpha_MSS = (1 - _FOCAL_ALPHA) + (2 * _FOCAL_ALPHA - 1) * target_MSS
    loss_MSS = alpha_MSS * torch.sigmoid(-true_side_MSS) ** _FOCAL_GAMMA * F.softplus(-true_side_MSS)
    return loss_MSS.mean(dim=(-2, -1))


def binary_cross_entropy(logits_MSS: Tensor, target_MSS: Tensor) -> Tensor:
    """Return the binary cross-entropy of each mask, the mean over its pixels, as GLaMM and LISA train."""
    return F.binary_cross_entropy_with_logits(logits_MSS, target_MSS, reduction="none").mean(dim=(-2, -1))


def dice_loss(logits_MSS: Tensor, target_MSS: Tensor) -> Tensor:
    """Return the Dice loss of each mask.

    Source: mbzuai-oryx/groundingLMM model/GLaMM.py `calculate_dice_loss`, scale and epsilon as there.
    """
    probability_MP = logits_MSS.sigmoid().flatten(1)
    target_MP = target_MSS.flatten(1)
    overlap_M = 2 * (probability_MP / _DICE_SCALE * target_MP).sum(dim=1)
    sizes_M = (probability_MP / _DICE_SCALE).sum(dim=1) + (target_MP / _DICE_SCALE).sum(dim=1)
    return 1 - (overlap_M + _DICE_EPSILON) / (sizes_M + _DICE_EPSILON)
