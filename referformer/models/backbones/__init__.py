# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Video backbones; image backbones come from mmdet."""

from referformer.models.backbones.video_swin import VideoSwinTransformer

__all__ = ['VideoSwinTransformer']
