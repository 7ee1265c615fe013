# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Swin Transformer of single frames."""

from typing import Any

import torch.nn.functional as F
from mmdet.models.backbones import SwinTransformer as _SwinTransformer
from mmdet.models.backbones.swin import WindowMSA
from mmdet.models.layers import PatchEmbed, PatchMerging
from torch import Tensor, nn

from referformer.models.backbones.windows import (
    attend_in_windows,
    attend_precisely,
    is_narrow,
    lay_windows,
)
from referformer.registry import MODELS
from referformer.utils.kept import is_traced
from referformer.utils.precision import at_least_float32, without_autocast
from referformer.utils.sizes import multiples


class _PatchEmbed(PatchEmbed):
    """Begins the residual stream in float32."""

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        with without_autocast(images):
            return super().forward(at_least_float32(images))


class _PatchMerging(PatchMerging):
    """Goes on with the residual stream in float32."""

    def forward(
        self, x: Tensor, input_size: tuple[int, int]
    ) -> tuple[Tensor, tuple[int, int]]:
        with without_autocast(x):
            return super().forward(at_least_float32(x), input_size)


class _WindowMSA(WindowMSA):
    """Attends in float32 where that costs little."""

    narrow = False

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return attend_precisely(super().forward, x, mask, self.narrow)


@MODELS.register_module()
class SwinTransformer(_SwinTransformer):
    """mmdet's Swin Transformer, with less rounding under an autocast.

    The residual stream stays in float32, and so does the attention of narrow
    networks; on CPUs, whose autocast would also round norms, everything does.
    Arguments, parameters and results are those of
    :class:`mmdet.models.SwinTransformer`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        precise = {
            part.__base__: part
            for part in (_PatchEmbed, _PatchMerging, _WindowMSA)
        }
        for part in self.modules():  # built by mmdet, deep inside
            part.__class__ = precise.get(type(part), type(part))
            if isinstance(part, _WindowMSA):
                part.narrow = is_narrow(self.num_features[0])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Extract maps of images of shape (B, 3, H, W)."""
        if is_traced() and not self.use_abs_pos_embed:
            return self._forward_any_size(images)
        if images.device.type != 'cpu':
            return super().forward(images)
        with without_autocast(images):
            return super().forward(at_least_float32(images))

    def _forward_any_size(self, images: Tensor) -> tuple[Tensor, ...]:
        """The same, recorded once for all sizes of images.

        mmdet decides by the size at hand whether to pad, and counts windows
        in floating point.
        """
        patches = _pad_to_multiple(images, self.patch_embed.projection.stride)
        x = self.patch_embed.projection(patches).permute(0, 2, 3, 1)
        x = self.drop_after_pos(_normed(self.patch_embed, x))
        outs = []
        for i, stage in enumerate(self.stages):
            for block in stage.blocks:
                x = x + _attend(block.attn, block.norm1(x))
                x = block.ffn(block.norm2(x), identity=x)
            if i in self.out_indices:
                out = getattr(self, f'norm{i}')(x)
                outs.append(out.permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = _merge(stage.downsample, x)
        return tuple(outs)


def _normed(part: nn.Module, x: Tensor) -> Tensor:
    return x if part.norm is None else part.norm(x)


def _pad_to_multiple(maps: Tensor, divisor: tuple[int, int]) -> Tensor:
    """Pad maps (B, C, h, w) with zeros at the bottom and at the right."""
    pad_h, pad_w = (
        multiples(side, step) * step - side
        for side, step in zip(maps.shape[-2:], divisor, strict=True)
    )
    return F.pad(maps, (0, pad_w, 0, pad_h))


def _attend(attn: nn.Module, x: Tensor) -> Tensor:
    """Call a ``ShiftWindowMSA`` of mmdet on maps (B, h, w, C)."""
    side, step = attn.window_size, attn.shift_size
    size = (1, *x.shape[1:3])
    plan = lay_windows(size, (1, side, side), (0, step, step), x.device)

    def attend(windows: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:  # to what is added to the scores
            mask = (~mask)[None] * -100.0
        return attn.w_msa(windows, mask)

    return attn.drop(attend_in_windows(x[:, None], plan, attend)[:, 0])


def _merge(merging: nn.Module, x: Tensor) -> Tensor:
    """Call a ``PatchMerging`` of mmdet on maps (B, h, w, C)."""
    x = _pad_to_multiple(x.permute(0, 3, 1, 2), (2, 2))
    height, width = (side // 2 for side in x.shape[-2:])
    # [B, C, h, 2, w, 2] -> [B, h, w, C, 2, 2]
    x = x.unflatten(3, (width, 2)).unflatten(2, (height, 2))
    x = x.permute(0, 2, 4, 1, 3, 5).flatten(3)
    return merging.reduction(_normed(merging, x))
