# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Video Swin, Swin of mmdet, and what lets any image backbone be used.

Other image backbones come from mmdet, mmpretrain and timm.
"""

from referformer.models.backbones.padded_backbone import PaddedBackbone
from referformer.models.backbones.simple_feature_pyramid import (
    SimpleFeaturePyramid,
)
from referformer.models.backbones.swin import SwinTransformer
from referformer.models.backbones.timm_backbone import TimmBackbone
from referformer.models.backbones.video_swin import VideoSwinTransformer

__all__ = [
    'PaddedBackbone',
    'SimpleFeaturePyramid',
    'SwinTransformer',
    'TimmBackbone',
    'VideoSwinTransformer',
]
