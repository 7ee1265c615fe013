# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Video Swin, and Swin of mmdet; other image backbones come from mmdet."""

from referformer.models.backbones.swin import SwinTransformer
from referformer.models.backbones.video_swin import VideoSwinTransformer

__all__ = ['SwinTransformer', 'VideoSwinTransformer']
