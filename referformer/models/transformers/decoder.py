# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Deformable decoder: queries attend to the frame and refine boxes."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.models.layers import inverse_sigmoid
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from referformer.models.layers import (
    FFN,
    MultiheadAttention,
    MultiScaleDeformableAttention,
)
from referformer.models.ops import FeatureLevels
from referformer.models.transformers.encoder import LayerSizes
from referformer.utils.precision import at_least_float32, without_autocast


def refine_boxes(
    branch: nn.Module, hidden: Tensor, reference: Tensor
) -> Tensor:
    """Add the offsets of a box branch to references, in full precision.

    A coordinate in half precision is off by a pixel and more.

    Args:
        branch (nn.Module): Box regressor of the layer, C to 4 channels.
        hidden (Tensor): Query states after the layer, shape (B, Q, C).
        reference (Tensor): Reference that entered the layer: points (x, y)
            or boxes (cx, cy, w, h) in [0, 1], shape (B, Q, 2 or 4).

    Returns:
        Tensor: (cx, cy, w, h) in [0, 1], float32, shape (B, Q, 4).
    """
    with without_autocast(hidden):
        start = inverse_sigmoid(at_least_float32(reference))
        start = F.pad(start, (0, 4 - start.shape[-1]))
        return (branch(at_least_float32(hidden)) + start).sigmoid()


class DecoderStates(NamedTuple):
    """What the decoder returns.

    Attributes:
        hidden (Tensor): Query states after each layer, shape (D, B, Q, C).
        references (Tensor): Detached boxes (cx, cy, w, h) after each layer,
            float32, shape (D, B, Q, 4).
    """

    hidden: Tensor
    references: Tensor


class DeformableDecoderLayer(BaseModule):
    """Attention among queries, to the frame, and FFN, norms after each.

    Args:
        sizes (LayerSizes): Its sizes.
    """

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        dims, dropout = sizes.embed_dims, sizes.dropout
        self.self_attn = MultiheadAttention(dims, sizes.num_heads, dropout)
        self.cross_attn = MultiScaleDeformableAttention(
            dims, sizes.num_heads, sizes.num_levels, sizes.num_points
        )
        self.ffn = FFN(dims, sizes.feedforward_channels, dropout)
        self.norms = ModuleList(nn.LayerNorm(dims) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Tensor,
        pos: Tensor,
        memory: Tensor,
        references: Tensor,
        levels: FeatureLevels,
        padding_mask: Tensor | None,
    ) -> Tensor:
        """Transform queries.

        Args:
            queries (Tensor): Shape (B, Q, C).
            pos (Tensor): Their positional part, shape (B, Q, C).
            memory (Tensor): Encoded frames, shape (B, tokens, C).
            references (Tensor): Points or boxes on each level, shape
                (B, Q, L, 2 or 4).
            levels (FeatureLevels): Geometry of the memory.
            padding_mask (Tensor, optional): True where the memory is
                padding, shape (B, tokens). None where nothing is padded.

        Returns:
            Tensor: Shape (B, Q, C).
        """
        with_pos = queries + pos
        read = self.self_attn(with_pos, with_pos, queries)
        queries = self.norms[0](queries + self.dropout(read))
        read = self.cross_attn(
            queries + pos, memory, references, levels, padding_mask
        )
        queries = self.norms[1](queries + self.dropout(read))
        return self.norms[2](self.ffn(queries))


class DeformableDecoder(BaseModule):
    """Layers of :class:`DeformableDecoderLayer`, each refining the boxes.

    Args:
        num_layers (int): How many, D.
        sizes (LayerSizes): Sizes of each layer.
    """

    def __init__(self, num_layers: int, sizes: LayerSizes) -> None:
        super().__init__()
        self.layers = ModuleList(
            DeformableDecoderLayer(sizes) for _ in range(num_layers)
        )

    def forward(
        self,
        queries: Tensor,
        pos: Tensor,
        references: Tensor,
        memory: Tensor,
        levels: FeatureLevels,
        valid_ratios: Tensor,
        padding_mask: Tensor | None,
        reg_branches: nn.ModuleList,
    ) -> DecoderStates:
        """Decode queries, in float32 under any autocast.

        Args:
            queries (Tensor): Shape (B, Q, C).
            pos (Tensor): Their positional part, shape (B, Q, C).
            references (Tensor): Initial points (x, y) in [0, 1], shape
                (B, Q, 2).
            memory (Tensor): Encoded frames, shape (B, tokens, C).
            levels (FeatureLevels): Geometry of the memory.
            valid_ratios (Tensor): Unpadded share (x, y) of each level, shape
                (B, L, 2).
            padding_mask (Tensor, optional): True where the memory is
                padding, shape (B, tokens). None where nothing is padded.
            reg_branches (nn.ModuleList): D box regressors.

        Returns:
            DecoderStates: Of every layer.
        """
        # a few queries, which every mask hangs on: float32 costs little here
        with without_autocast(queries):
            queries, pos, references, memory = map(
                at_least_float32, (queries, pos, references, memory)
            )
            # [B, 1, L, 4]; boxes and points of the frame to those of a level
            ratios = valid_ratios.repeat(1, 1, 2)[:, None]
            hidden, boxes = [], []
            for layer, branch in zip(self.layers, reg_branches, strict=True):
                on_levels = references[:, :, None]
                on_levels = on_levels * ratios[..., : references.shape[-1]]
                queries = layer(
                    queries, pos, memory, on_levels, levels, padding_mask
                )
                references = refine_boxes(branch, queries, references).detach()
                hidden.append(queries)
                boxes.append(references)
            return DecoderStates(torch.stack(hidden), torch.stack(boxes))
