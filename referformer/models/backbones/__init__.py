# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Video Swin, a small ResNet that sees time, Swin of mmdet, and adapters.

The adapters let any image backbone of mmdet, mmpretrain and timm be used.
"""

from referformer.models.backbones.padded_backbone import PaddedBackbone
from referformer.models.backbones.simple_feature_pyramid import (
    SimpleFeaturePyramid,
)
from referformer.models.backbones.swin import SwinTransformer
from referformer.models.backbones.temporal_resnet import TemporalResNet
from referformer.models.backbones.timm_backbone import TimmBackbone
from referformer.models.backbones.video_swin import VideoSwinTransformer

__all__ = [
    'PaddedBackbone',
    'SimpleFeaturePyramid',
    'SwinTransformer',
    'TemporalResNet',
    'TimmBackbone',
    'VideoSwinTransformer',
]
