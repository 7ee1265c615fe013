# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Swin Transformer of single frames."""

from mmdet.models.backbones import SwinTransformer as _SwinTransformer
from torch import Tensor

from referformer.registry import MODELS
from referformer.utils.precision import at_least_float32, without_autocast


@MODELS.register_module()
class SwinTransformer(_SwinTransformer):
    """mmdet's Swin Transformer, in float32 on CPUs under any autocast.

    The autocast of CPUs rounds norms and the residual stream to bfloat16,
    which moves mask pixels; that of GPUs does not. Arguments, parameters and
    results are those of :class:`mmdet.models.SwinTransformer`.
    """

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Extract maps of images of shape (B, 3, H, W)."""
        if images.device.type != 'cpu':
            return super().forward(images)
        with without_autocast(images):
            return super().forward(at_least_float32(images))
