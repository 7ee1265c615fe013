# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Deformable transformer that runs on every frame with shared queries."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from mmdet.models.layers import (
    DeformableDetrTransformerDecoder,
    DeformableDetrTransformerEncoder,
)
from mmdet.models.layers.transformer.deformable_detr_layers import (
    DeformableDetrTransformerDecoderLayer,
    DeformableDetrTransformerEncoderLayer,
)
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from referformer.models.layers import (
    FFN,
    MultiheadAttention,
    MultiScaleDeformableAttention,
    run_layer,
)
from referformer.registry import MODELS
from referformer.structures import (
    ConditionalQueryInputs,
    DecodedQueries,
    FrameFeatures,
)

# Frames that one launch of mmcv's CUDA operator takes at most.
_MAX_FRAMES_PER_LAUNCH = 64


def frames_per_launch(num_frames: int) -> int:
    """Tell how many frames mmcv's CUDA operator should take at a time.

    The operator works through the frames in equal parts and stops with an
    error where they do not come out even: with its default of 64, a video of
    70 frames or a batch of 16 clips of five.

    Args:
        num_frames (int): Frames B, at least 1.

    Returns:
        int: The largest divisor of B that is not above 64.
    """
    largest = min(num_frames, _MAX_FRAMES_PER_LAUNCH)
    return next(n for n in range(largest, 0, -1) if num_frames % n == 0)


class _SelfAttention(MultiheadAttention):
    """Residual self-attention with the call signature of mmcv's layer."""

    def __init__(
        self, embed_dims: int, num_heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__(embed_dims, num_heads, dropout)
        self.proj_drop = nn.Dropout(dropout)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_pos: Tensor | None = None,
        **kwargs,  # noqa: ANN003 - the rest of mmdet's calling convention
    ) -> Tensor:
        with_pos = query if query_pos is None else query + query_pos
        return query + self.proj_drop(
            super().forward(with_pos, with_pos, query)
        )


class _EncoderLayer(DeformableDetrTransformerEncoderLayer):
    """mmdet's layer on the fast attention and feed-forward network."""

    def _init_layers(self) -> None:
        self.self_attn = MultiScaleDeformableAttention(**self.self_attn_cfg)
        self.embed_dims = self.self_attn.embed_dims
        self.ffn = FFN(**self.ffn_cfg)
        self.norms = ModuleList(nn.LayerNorm(self.embed_dims) for _ in '12')


class _Encoder(DeformableDetrTransformerEncoder):
    """mmdet's encoder over :class:`_EncoderLayer`."""

    def __init__(self, with_cp: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.with_cp = with_cp

    def _init_layers(self) -> None:
        self.layers = ModuleList(
            _EncoderLayer(**self.layer_cfg) for _ in range(self.num_layers)
        )
        self.embed_dims = self.layers[0].embed_dims

    def forward(
        self,
        query: Tensor,
        valid_ratios: Tensor,
        centers: Sequence[Tensor],
        **kwargs: Any,
    ) -> Tensor:
        """Encode tokens.

        Args:
            query (Tensor): Shape (B, tokens, C).
            valid_ratios (Tensor): Unpadded share of each level, (B, L, 2).
            centers (Sequence[Tensor]): (x, y) of the tokens of each level in
                [0, 1], shape (h * w, 2).
            kwargs: What the attention of each layer takes besides.

        Returns:
            Tensor: Shape (B, tokens, C).
        """
        # relative to the unpadded part of the own level, then of each level
        ratios = valid_ratios[:, None].unbind(2)
        points = torch.cat(
            [level / r for level, r in zip(centers, ratios, strict=True)], 1
        )
        points = points[:, :, None] * valid_ratios[:, None]
        for layer in self.layers:
            query = run_layer(
                layer,
                self.with_cp,
                query=query,
                reference_points=points,
                **kwargs,
            )
        return query


class _DecoderLayer(DeformableDetrTransformerDecoderLayer):
    """mmdet's layer on the fused and the fast attention."""

    def _init_layers(self) -> None:
        cfg = self.self_attn_cfg
        self.self_attn = _SelfAttention(
            cfg['embed_dims'], cfg['num_heads'], cfg['dropout']
        )
        self.cross_attn = MultiScaleDeformableAttention(**self.cross_attn_cfg)
        self.embed_dims = self.self_attn.embed_dims
        self.ffn = FFN(**self.ffn_cfg)
        self.norms = ModuleList(nn.LayerNorm(self.embed_dims) for _ in '123')


class _Decoder(DeformableDetrTransformerDecoder):
    """mmdet's decoder over :class:`_DecoderLayer`."""

    def _init_layers(self) -> None:
        self.layers = ModuleList(
            _DecoderLayer(**self.layer_cfg) for _ in range(self.num_layers)
        )
        self.embed_dims = self.layers[0].embed_dims


@lru_cache(maxsize=64)
def _describe_levels(
    shapes: tuple[tuple[int, int], ...], device: torch.device
) -> dict[str, Any]:
    """What attention must know of the levels, on the device.

    Kept from call to call: building it would make the host wait for the
    device. Multi-scale training sees some dozens of shapes.
    """
    areas = [height * width for height, width in shapes]
    # also used for gradients, whoever asks first
    with torch.inference_mode(False):
        centers = []
        for height, width in shapes:
            x = (torch.arange(width) + 0.5) / width
            y = (torch.arange(height) + 0.5) / height
            grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), -1)
            centers.append(grid.flatten(0, 1).to(device))
        return {
            'shapes': shapes,
            'spatial_shapes': torch.tensor(shapes, device=device),
            'level_start_index': torch.tensor(
                [sum(areas[:i]) for i in range(len(areas))], device=device
            ),
            'centers': tuple(centers),
        }


@MODELS.register_module()
class ReferDeformableTransformer(BaseModule):
    """Deformable-DETR encoder and decoder over B = N * T frames.

    The encoder and decoder are mmdet's, on mmcv's compiled operator for
    multi-scale deformable attention on CUDA and our own on CPU. Frames are
    independent here; it is the shared positional part of the queries that
    makes query ``q`` the same object in all of them (paper Sec. 3.3).

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
        deformable = {
            'embed_dims': embed_dims,
            'num_heads': num_heads,
            'num_levels': num_levels,
            'num_points': num_points,
            'dropout': dropout,
            'batch_first': True,
        }
        ffn = {
            'embed_dims': embed_dims,
            'feedforward_channels': feedforward_channels,
            'ffn_drop': dropout,
        }
        self.num_levels = num_levels
        self.num_decoder_layers = num_decoder_layers
        self.num_memory_levels = num_memory_levels
        self.level_embed = nn.Parameter(torch.empty(num_levels, embed_dims))
        nn.init.normal_(self.level_embed)
        self.encoder = _Encoder(
            with_cp=with_cp,
            num_layers=num_encoder_layers,
            layer_cfg={'self_attn_cfg': deformable, 'ffn_cfg': ffn},
        )
        self.decoder = _Decoder(
            num_layers=num_decoder_layers,
            return_intermediate=True,
            layer_cfg={
                'self_attn_cfg': {
                    'embed_dims': embed_dims,
                    'num_heads': num_heads,
                    'dropout': dropout,
                    'batch_first': True,
                },
                'cross_attn_cfg': deformable,
                'ffn_cfg': ffn,
            },
        )

    def init_weights(self) -> None:
        """Xavier everywhere, then the ring of offsets of each attention."""
        super().init_weights()
        for param in self.parameters():
            if param.dim() > 1:
                nn.init.xavier_uniform_(param)
        for module in self.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.init_weights()
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
    ) -> DecodedQueries:
        """Encode the frames and decode the queries.

        Args:
            levels (Sequence[FrameFeatures]): Fused maps, finest first, each
                of shape (B, C, h, w).
            queries (ConditionalQueryInputs): Decoder input.
            reg_branches (nn.ModuleList): D box regressors, used to refine
                the reference points layer by layer.

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
        padding = torch.cat([x.padding_mask.flatten(1) for x in levels], 1)
        shapes = tuple(tuple(x.map.shape[-2:]) for x in levels)
        areas = [height * width for height, width in shapes]
        geometry = {
            **_describe_levels(shapes, tokens.device),
            'valid_ratios': torch.stack(
                [self._valid_ratio(x.padding_mask) for x in levels], 1
            ),
        }
        step = frames_per_launch(len(tokens))
        for module in self.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.im2col_step = step
        memory = self.encoder(
            query=tokens, query_pos=pos, key_padding_mask=padding, **geometry
        )
        hidden, references = self.decoder(
            query=queries.content,
            query_pos=queries.pos,
            value=memory,
            key_padding_mask=padding,
            reference_points=queries.reference,
            reg_branches=reg_branches,
            **geometry,
        )
        n = self.num_memory_levels
        maps = [
            part.transpose(1, 2).unflatten(2, shape)
            for part, shape in zip(
                memory.split(areas, 1)[:n], shapes[:n], strict=True
            )
        ]
        return DecodedQueries(
            hidden, queries.reference, references, tuple(maps)
        )
