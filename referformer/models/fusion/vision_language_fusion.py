# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Early fusion: words gate every pixel before the transformer."""

from mmengine.model import BaseModule
from torch import Tensor

from referformer.models.layers import MultiheadAttention
from referformer.registry import MODELS
from referformer.structures import TextFeatures
from referformer.utils.precision import at_least_float32, without_autocast


@MODELS.register_module()
class VisionLanguageFusion(BaseModule):
    """Multiply each pixel by what it reads from the words (paper Sec. 3.2).

    One attention module is shared by all feature levels. A pixel carries no
    position here, so frames and levels are independent of one another.

    Args:
        embed_dims (int): Channels C.
        num_heads (int): Attention heads.
        dropout (float): Dropout rate of the attention weights.
        init_cfg (dict, optional): Initialisation config of mmengine.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        dropout: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.attn = MultiheadAttention(embed_dims, num_heads, dropout)

    def forward(self, feats: Tensor, text: TextFeatures) -> Tensor:
        """Fuse one level, in float32 under any autocast.

        Args:
            feats (Tensor): Maps of one level, shape (B, C, h, w).
            text (TextFeatures): Features of N expressions; B = N * T.

        Returns:
            Tensor: Fused maps, shape (B, C, h, w).
        """
        # what all later layers read; few words make it cheap in float32
        with without_autocast(feats):
            return self._fuse(at_least_float32(feats), text)

    def _fuse(self, feats: Tensor, text: TextFeatures) -> Tensor:
        num_clips = text.words.shape[0]
        height, width = feats.shape[-2:]
        # [B, C, h, w] -> [N, T*h*w, C]
        pixels = feats.flatten(2).transpose(1, 2)
        pixels = pixels.reshape(num_clips, -1, feats.shape[1])
        read = self.attn(
            pixels,
            text.words + text.word_pos,
            text.words,
            text.padding_mask,
        )
        fused = (pixels * read).view(feats.shape[0], height * width, -1)
        return fused.transpose(1, 2).unflatten(2, (height, width))
