# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Deformable encoder: pixels of a frame attend to all its levels."""

from typing import NamedTuple

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from referformer.models.layers import (
    FFN,
    MultiScaleDeformableAttention,
    call_checkpointed,
    call_in_parts,
)
from referformer.models.ops import FeatureLevels


class LayerSizes(NamedTuple):
    """Sizes of the layers of encoder and decoder.

    Attributes:
        embed_dims (int): Channels C.
        num_heads (int): Attention heads.
        num_levels (int): Feature levels L.
        num_points (int): Sampling points per head and level.
        feedforward_channels (int): Hidden channels of the FFN.
        dropout (float): Dropout rate.
    """

    embed_dims: int
    num_heads: int
    num_levels: int
    num_points: int
    feedforward_channels: int
    dropout: float


class DeformableEncoderLayer(BaseModule):
    """Deformable self-attention and feed-forward network, norms after each.

    Args:
        sizes (LayerSizes): Its sizes.
    """

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        dims, dropout = sizes.embed_dims, sizes.dropout
        self.self_attn = MultiScaleDeformableAttention(
            dims, sizes.num_heads, sizes.num_levels, sizes.num_points
        )
        self.ffn = FFN(dims, sizes.feedforward_channels, dropout)
        self.norms = ModuleList(nn.LayerNorm(dims) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Tensor,
        pos: Tensor,
        references: Tensor,
        levels: FeatureLevels,
        padding_mask: Tensor | None,
    ) -> Tensor:
        """Transform tokens.

        Args:
            tokens (Tensor): Shape (B, tokens, C).
            pos (Tensor): Their position encoding, of the same shape.
            references (Tensor): Where each token is on each level, (x, y),
                shape (B, tokens, L, 2).
            levels (FeatureLevels): Geometry of the tokens.
            padding_mask (Tensor, optional): True on padding, shape
                (B, tokens). None where nothing is padded.

        Returns:
            Tensor: Shape (B, tokens, C).
        """
        read = self.self_attn(
            tokens + pos, tokens, references, levels, padding_mask
        )
        return call_in_parts(self._transform, tokens, read)

    def _transform(self, tokens: Tensor, read: Tensor) -> Tensor:
        """Add what was read to some tokens, (B, P, C) to (B, P, C)."""
        tokens = self.norms[0](tokens + self.dropout(read))
        return self.norms[1](self.ffn(tokens))


class DeformableEncoder(BaseModule):
    """Layers of :class:`DeformableEncoderLayer`.

    Args:
        num_layers (int): How many.
        with_cp (bool): Recompute the activations of each layer in the
            backward pass to save memory.
        sizes (LayerSizes): Sizes of each layer.
    """

    def __init__(
        self, num_layers: int, with_cp: bool, sizes: LayerSizes
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.layers = ModuleList(
            DeformableEncoderLayer(sizes) for _ in range(num_layers)
        )

    def forward(
        self,
        tokens: Tensor,
        pos: Tensor,
        levels: FeatureLevels,
        valid_ratios: Tensor,
        padding_mask: Tensor | None,
    ) -> Tensor:
        """Encode tokens.

        Args:
            tokens (Tensor): Shape (B, tokens, C).
            pos (Tensor): Their position encoding, of the same shape.
            levels (FeatureLevels): Geometry of the tokens.
            valid_ratios (Tensor): Unpadded share (x, y) of each level, shape
                (B, L, 2).
            padding_mask (Tensor, optional): True on padding, shape
                (B, tokens). None where nothing is padded.

        Returns:
            Tensor: Shape (B, tokens, C).
        """
        # relative to the unpadded part of the own level, then of each level
        ratios = valid_ratios[:, None].unbind(2)
        references = torch.cat(
            [c / r for c, r in zip(levels.centers, ratios, strict=True)], 1
        )
        references = references[:, :, None] * valid_ratios[:, None]
        for layer in self.layers:
            tokens = call_checkpointed(
                layer,
                self.with_cp,
                tokens,
                pos,
                references,
                levels,
                padding_mask,
            )
        return tokens
