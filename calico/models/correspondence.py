"""Correspondence Extraction Module (section 3.3): EVA-CLIP tokens attend to DINOv2's."""

from torch import Tensor, nn


class CorrespondenceExtraction(nn.Module):
    """X'_global = X_global + Attention(X_global, X_semantic), eq. 6, per image.

    Deviation: eq. 6 has no residual. With it and an output projection that starts at zero, X' starts as X,
    which is what the frozen Q-Former was trained on; the number of parameters is the same.
    """

    def __init__(self, *, width: int, semantic_width: int, num_heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(
            width, num_heads, kdim=semantic_width, vdim=semantic_width, batch_first=True
        )
        nn.init.zeros_(self.attention.out_proj.weight)
        nn.init.zeros_(self.attention.out_proj.bias)

    def forward(self, global_IPF: Tensor, semantic_IPF: Tensor) -> Tensor:
        """Return X'_global, of the shape of `global_IPF`."""
        extracted_IPF, _ = self.attention(global_IPF, semantic_IPF, semantic_IPF, need_weights=False)
        return global_IPF + extracted_IPF
