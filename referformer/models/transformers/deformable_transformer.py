# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Deformable transformer that runs on every frame with shared queries."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.models.layers import (
    MultiheadAttention,
    MultiScaleDeformableAttention,
)
from referformer.models.ops import describe_levels
from referformer.models.transformers.decoder import DeformableDecoder
from referformer.models.transformers.encoder import (
    DeformableEncoder,
    LayerSizes,
)
from referformer.registry import MODELS
from referformer.structures import (
    ConditionalQueryInputs,
    DecodedQueries,
    FrameFeatures,
)


@MODELS.register_module()
class ReferDeformableTransformer(BaseModule):
    """Deformable-DETR encoder and decoder over B = N * T frames.

    Frames are independent here; it is the shared positional part of the
    queries that makes query ``q`` the same object in all of them (paper
    Sec. 3.3).

    Args:
        embed_dims (int): Channels C.
        num_heads (int): Attention heads.
        num_levels (int): Feature levels.
        num_points (int): Sampling points per head and level.
        num_encoder_layers (int): Encoder layers.
        num_decoder_layers (int): Decoder layers, D.
        feedforward_channels (int): Hidden channels of the FFNs.
        dropout (float): Dropout rate.
        num_memory_levels (int): Leading levels returned as memory maps for
            the pixel decoder.
        with_cp (bool): Recompute the activations of the encoder in the
            backward pass to save memory.
        init_cfg (dict, optional): Initialisation config of mmengine.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        num_encoder_layers: int = 4,
        num_decoder_layers: int = 4,
        feedforward_channels: int = 2048,
        dropout: float = 0.1,
        num_memory_levels: int = 3,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        sizes = LayerSizes(
            embed_dims,
            num_heads,
            num_levels,
            num_points,
            feedforward_channels,
            dropout,
        )
        self.num_memory_levels = num_memory_levels
        self.level_embed = nn.Parameter(torch.empty(num_levels, embed_dims))
        nn.init.normal_(self.level_embed)
        self.encoder = DeformableEncoder(num_encoder_layers, with_cp, sizes)
        self.decoder = DeformableDecoder(num_decoder_layers, sizes)

    def init_weights(self) -> None:
        """Xavier everywhere, then what attention layers have of their own."""
        super().init_weights()
        for param in self.parameters():
            if param.dim() > 1:
                nn.init.xavier_uniform_(param)
        for module in self.modules():
            if isinstance(
                module, MultiheadAttention | MultiScaleDeformableAttention
            ):
                module.reset_parameters()
        nn.init.normal_(self.level_embed)

    @staticmethod
    def _valid_ratio(padding_mask: Tensor) -> Tensor:
        """Unpadded share of a level, as (x, y), shape (B, 2)."""
        height, width = padding_mask.shape[1:]
        valid = ~padding_mask
        return torch.stack(
            (
                valid[:, 0, :].sum(1) / width,
                valid[:, :, 0].sum(1) / height,
            ),
            -1,
        )

    def forward(
        self,
        levels: Sequence[FrameFeatures],
        queries: ConditionalQueryInputs,
        reg_branches: nn.ModuleList,
        padded: bool = True,
    ) -> DecodedQueries:
        """Encode the frames and decode the queries.

        Args:
            levels (Sequence[FrameFeatures]): Fused maps, finest first, each
                of shape (B, C, h, w).
            queries (ConditionalQueryInputs): Decoder input.
            reg_branches (nn.ModuleList): D box regressors, used to refine
                the reference points layer by layer.
            padded (bool): Whether any pixel of the batch is padding.

        Returns:
            DecodedQueries: States and references of every layer, and the
            encoded maps.
        """
        tokens = torch.cat(
            [lvl.map.flatten(2).transpose(1, 2) for lvl in levels], 1
        )
        pos = torch.cat(
            [
                lvl.pos.flatten(2).transpose(1, 2) + self.level_embed[i]
                for i, lvl in enumerate(levels)
            ],
            1,
        )
        padding = None
        if padded:
            padding = torch.cat([x.padding_mask.flatten(1) for x in levels], 1)
            valid_ratios = torch.stack(
                [self._valid_ratio(x.padding_mask) for x in levels], 1
            )
        else:
            valid_ratios = tokens.new_ones(
                1, len(levels), 2, dtype=torch.float32
            )  # the same for all frames
        shapes = tuple(tuple(x.map.shape[-2:]) for x in levels)
        geometry = describe_levels(shapes, tokens)
        memory = self.encoder(tokens, pos, geometry, valid_ratios, padding)
        hidden, references = self.decoder(
            queries.content,
            queries.pos,
            queries.reference,
            memory,
            geometry,
            valid_ratios,
            padding,
            reg_branches,
        )
        n = self.num_memory_levels
        maps = [
            part.transpose(1, 2).unflatten(2, shape)
            for part, shape in zip(
                memory.split(geometry.areas, 1)[:n], shapes[:n], strict=True
            )
        ]
        return DecodedQueries(
            hidden, queries.reference, references, tuple(maps)
        )
