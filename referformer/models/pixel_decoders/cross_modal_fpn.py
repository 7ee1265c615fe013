# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Cross-modal feature pyramid: features fused over frames and words."""

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, ModuleList, caffe2_xavier_init
from torch import Tensor, nn

from referformer.models.layers import (
    FFN,
    MaskFeatures,
    MultiheadAttention,
    call_checkpointed,
    call_in_parts,
    make_mask_features,
)
from referformer.registry import MODELS
from referformer.structures import FrameFeatures, TextFeatures
from referformer.utils.precision import at_least_float32, without_autocast
from referformer.utils.sizes import larger


class VisionLanguageBlock(BaseModule):
    """Attention over all pixels of a clip, then over the words.

    Self-attention runs on maps reduced ``sr_ratio`` times, on the tokens of
    all T frames together; it is where frames exchange information.

    Args:
        embed_dims (int): Channels C.
        num_heads (int): Attention heads.
        feedforward_channels (int): Hidden channels of the FFN.
        dropout (float): Dropout rate.
        sr_ratio (int): Spatial reduction of the self-attention.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        dropout: float,
        sr_ratio: int,
    ) -> None:
        super().__init__()
        self.sr_ratio = sr_ratio
        self.self_attn = MultiheadAttention(embed_dims, num_heads, dropout)
        self.cross_attn = MultiheadAttention(embed_dims, num_heads, dropout)
        self.ffn = FFN(embed_dims, feedforward_channels, dropout)
        self.norms = ModuleList(nn.LayerNorm(embed_dims) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    @staticmethod
    def _tokens(maps: Tensor, num_clips: int) -> Tensor:
        # [B, C, h, w] -> [N, T*h*w, C]
        tokens = maps.flatten(2).transpose(1, 2)
        return tokens.reshape(num_clips, -1, maps.shape[1])

    @staticmethod
    def _maps(tokens: Tensor, num_frames: int, height: int) -> Tensor:
        # [N, T*h*w, C] -> [B, C, h, w]
        maps = tokens.unflatten(1, (num_frames, height, -1)).flatten(0, 1)
        return maps.permute(0, 3, 1, 2)

    def _attend_pixels(
        self, frames: FrameFeatures, num_clips: int, padded: bool
    ) -> Tensor:
        """Self-attention on reduced maps, shape (B, C, h, w)."""
        maps, mask, pos = frames
        maps = at_least_float32(maps)
        num_frames = maps.shape[0] // num_clips
        size = maps.shape[-2:]
        if self.sr_ratio > 1:
            small = [larger(side // self.sr_ratio, 1) for side in size]
            maps = F.interpolate(maps, size=small, mode='nearest')
            pos = F.interpolate(pos, size=small, mode='nearest')
            mask = F.interpolate(mask[None].float(), size=small)[0].bool()
        value = self._tokens(maps, num_clips)
        query = value + self._tokens(pos, num_clips)
        with without_autocast(value):
            read = self.self_attn(
                query,
                query,
                value,
                mask.reshape(num_clips, -1) if padded else None,
            )
        read = self._maps(read, num_frames, maps.shape[-2])
        if self.sr_ratio > 1:
            read = F.interpolate(
                read, size=size, mode='bilinear', align_corners=False
            )
        return read

    def _attend_words(
        self, tokens: Tensor, pos: Tensor, text: TextFeatures
    ) -> Tensor:
        """Cross-attention and FFN of some pixels, (N, P, C) to (N, P, C)."""
        tokens = self.norms[0](tokens)
        read = self.cross_attn(
            tokens + pos,
            text.words + text.word_pos,
            text.words,
            text.padding_mask,
        )
        tokens = self.norms[1](tokens + self.dropout(read))
        return self.norms[2](self.ffn(tokens))

    def forward(
        self, frames: FrameFeatures, text: TextFeatures, padded: bool
    ) -> Tensor:
        """Mix frames and words into one level.

        Args:
            frames (FrameFeatures): The level, maps of shape (B, C, h, w).
            text (TextFeatures): Features of N expressions; B = N * T.
            padded (bool): Whether any pixel of the batch is padding.

        Returns:
            Tensor: Maps of shape (B, C, h, w).
        """
        num_clips = text.words.shape[0]
        num_frames = frames.map.shape[0] // num_clips
        read = self._attend_pixels(frames, num_clips, padded)
        tokens = self._tokens(frames.map + self.dropout(read), num_clips)
        pos = self._tokens(frames.pos, num_clips)
        # from here on a pixel is on its own: no need to hold all at once
        tokens = call_in_parts(
            partial(self._attend_words, text=text), tokens, pos
        )
        return self._maps(tokens, num_frames, frames.map.shape[-2])


@MODELS.register_module()
class CrossModalFPN(BaseModule):
    """Cross-modal FPN, the pixel decoder (paper Sec. 3.4).

    From stride 32 to 4: 1x1 convolution, vision-language block, addition of
    the coarser result, 3x3 convolution; last, a 3x3 convolution to mask
    features.

    Args:
        in_channels (Sequence[int]): Channels of the inputs, finest first:
            the stride-4 backbone map, then the memory maps.
        embed_dims (int): Channels C of the pyramid.
        mask_channels (int): Channels of the mask features.
        num_heads (int): Attention heads.
        feedforward_channels (int): Hidden channels of the blocks' FFNs.
        dropout (float): Dropout rate of the blocks.
        sr_ratios (Sequence[int]): Spatial reduction of the self-attention of
            each level, finest first.
        norm_cfg (dict): Normalisation of the convolutions.
        with_cp (bool): Recompute the activations of the blocks in the
            backward pass to save memory.
        init_cfg (dict, optional): Initialisation config of mmengine.

    Raises:
        ValueError: If ``in_channels`` and ``sr_ratios`` differ in length.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        embed_dims: int = 256,
        mask_channels: int = 256,
        num_heads: int = 8,
        feedforward_channels: int = 2048,
        dropout: float = 0.1,
        sr_ratios: Sequence[int] = (8, 4, 2, 1),
        norm_cfg: dict | None = None,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(in_channels) != len(sr_ratios):
            raise ValueError(
                f'in_channels has {len(in_channels)} levels but sr_ratios '
                f'has {len(sr_ratios)}'
            )
        self.with_cp = with_cp
        norm_cfg = norm_cfg or {'type': 'GN', 'num_groups': 8}
        self.lateral_convs = ModuleList(
            ConvModule(c, embed_dims, 1, norm_cfg=norm_cfg, act_cfg=None)
            for c in in_channels
        )
        self.blocks = ModuleList(
            VisionLanguageBlock(
                embed_dims, num_heads, feedforward_channels, dropout, ratio
            )
            for ratio in sr_ratios
        )
        self.output_convs = ModuleList(
            ConvModule(embed_dims, embed_dims, 3, padding=1, norm_cfg=norm_cfg)
            for _ in in_channels
        )
        self.mask_features = nn.Conv2d(embed_dims, mask_channels, 3, padding=1)

    def init_weights(self) -> None:
        """Caffe2 Xavier for convolutions, Xavier for the blocks."""
        super().init_weights()
        for module in (*self.lateral_convs, *self.output_convs):
            caffe2_xavier_init(module.conv)
        caffe2_xavier_init(self.mask_features)
        for param in self.blocks.parameters():
            if param.dim() > 1:
                nn.init.xavier_uniform_(param)
        for block in self.blocks:
            block.self_attn.reset_parameters()
            block.cross_attn.reset_parameters()

    def forward(
        self,
        levels: Sequence[FrameFeatures],
        text: TextFeatures,
        padded: bool = True,
    ) -> Tensor | MaskFeatures:
        """Decode mask features.

        Attention and lateral convolutions run in float32 under any autocast.

        Args:
            levels (Sequence[FrameFeatures]): Maps at strides 4, 8, 16, 32.
            text (TextFeatures): Features of N expressions.
            padded (bool): Whether any pixel of the batch is padding.

        Returns:
            Tensor | MaskFeatures: Mask features at stride 4, shape
            (B, C_mask, h, w).
        """
        coarser = None
        for i in reversed(range(len(levels))):
            with without_autocast(levels[i].map):
                lateral = self.lateral_convs[i](
                    at_least_float32(levels[i].map)
                )
            fused = call_checkpointed(
                self.blocks[i],
                self.with_cp,
                levels[i]._replace(map=lateral),
                text,
                padded,
            )
            if coarser is not None:
                fused = fused + F.interpolate(
                    coarser, size=fused.shape[-2:], mode='nearest'
                )
            coarser = self.output_convs[i](fused)
        return make_mask_features(coarser, self.mask_features)
