"""[SEG] states to masks: f_segmentation, SAM's prompt encoder and mask decoder (eq. 3), and masks to pixels.

The stock MaskDecoder takes one image and many prompts. `decode` runs the stock decoder's own sub-modules on
one image embedding per mask instead, so all masks of all images of a batch take one pass.
"""

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from calico.model_config import GroundingSection


def build_f_segmentation(hidden_size: int, prompt_width: int) -> nn.Sequential:
    """Build f_segmentation: GLaMM's `text_hidden_fcs`, whose weights it takes (its dropout is 0)."""
    return nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, prompt_width))


def build_prompt_encoder(section: GroundingSection) -> PromptEncoder:
    """Build SAM's prompt encoder with random weights."""
    side = section.image_size_px // section.patch_size_px
    return PromptEncoder(
        embed_dim=section.prompt_width,
        image_embedding_size=(side, side),
        input_image_size=(section.image_size_px, section.image_size_px),
        mask_in_chans=16,
    )


def build_mask_decoder(section: GroundingSection) -> MaskDecoder:
    """Build SAM's mask decoder with random weights."""
    return MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(
            depth=2,
            embedding_dim=section.prompt_width,
            mlp_dim=section.decoder_mlp,
            num_heads=section.decoder_heads,
        ),
        transformer_dim=section.prompt_width,
        iou_head_depth=3,
        iou_head_hidden_dim=section.prompt_width,
    )


def decode(
    decoder: MaskDecoder, prompt_encoder: PromptEncoder, prompts_ME: Tensor, grounding_MCGG: Tensor
) -> tuple[Tensor, Tensor]:
    """Decode one mask per prompt, each in its own image.

    Args:
        decoder: stock mask decoder.
        prompt_encoder: stock prompt encoder; gives the "no mask" embedding and the position encoding.
        prompts_ME: f_segmentation's output, each the only sparse prompt of its mask.
        grounding_MCGG: image embedding of each mask.

    Returns:
        Logits of mask token 0 (`multimask_output=False`), (M, 4 G, 4 G), and its predicted IoU, (M,).

    Source: segment_anything/modeling/mask_decoder.py `predict_masks`.
    """
    side = grounding_MCGG.shape[-1]
    learned_TE = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens_MTE = torch.cat([learned_TE.expand(len(prompts_ME), -1, -1), prompts_ME[:, None]], dim=1)
    source_MCGG = grounding_MCGG + prompt_encoder.no_mask_embed.weight[:, :, None, None]
    position_MCGG = position_encoding(prompt_encoder).expand(len(prompts_ME), -1, -1, -1)
    tokens_MTE, source_MPC = decoder.transformer(source_MCGG, position_MCGG, tokens_MTE)
    source_MCGG = source_MPC.transpose(1, 2).unflatten(2, (side, side))
    upscaled_MCGG = decoder.output_upscaling(source_MCGG)
    weights_MC = decoder.output_hypernetworks_mlps[0](tokens_MTE[:, 1])
    mask_logits_MGG = torch.einsum("mc,mchw->mhw", weights_MC, upscaled_MCGG)
    iou_M = decoder.iou_prediction_head(tokens_MTE[:, 0])[:, 0]
    return mask_logits_MGG, iou_M


def position_encoding(prompt_encoder: PromptEncoder) -> Tensor:
    """Return SAM's dense position encoding, (1, C, G, G), in the prompt encoder's dtype.

    The stock `get_dense_pe` mixes float32 coordinates with the stored matrix and fails in bfloat16.
    """
    layer = prompt_encoder.pe_layer
    matrix = layer.positional_encoding_gaussian_matrix
    encoding_CGG = torch.func.functional_call(
        layer, {"positional_encoding_gaussian_matrix": matrix.float()}, (prompt_encoder.image_embedding_size,)
    )
    return encoding_CGG[None].to(matrix.dtype)


def unused_heads(decoder: MaskDecoder) -> list[nn.Parameter]:
    """Return the decoder's parameters that no loss reaches: IoU head, hyper-networks of masks 1 to 3."""
    modules = [decoder.iou_prediction_head, *decoder.output_hypernetworks_mlps[1:]]
    return [parameter for module in modules for parameter in module.parameters()]


@torch.no_grad()
def upsample_masks(
    mask_logits_MGG: Tensor,
    *,
    resized_size: tuple[int, int],
    original_size: tuple[int, int],
    image_size_px: int,
) -> Tensor:
    """Bring low-resolution logits of one image to its pixels and threshold at 0.

    Args:
        mask_logits_MGG: logits in the padded frame.
        resized_size: (height, width) of the image inside the frame, before padding.
        original_size: (height, width) of the image file.
        image_size_px: side of the frame.

    Returns:
        Boolean masks, (M, height, width).

    Source: segment_anything/modeling/sam.py `postprocess_masks`, in float32. One mask at a time: all masks of
    a large photograph at once do not fit into memory.
    """
    masks_MHW = torch.empty((len(mask_logits_MGG), *original_size), dtype=torch.bool)
    height, width = resized_size
    for index, logits_GG in enumerate(mask_logits_MGG.float()):
        frame_11SS = F.interpolate(logits_GG[None, None], (image_size_px, image_size_px), mode="bilinear")
        pixels_11HW = F.interpolate(frame_11SS[..., :height, :width], original_size, mode="bilinear")
        masks_MHW[index] = pixels_11HW[0, 0] > 0
    return masks_MHW
