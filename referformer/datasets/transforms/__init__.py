# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Transforms of clips with an expression."""

from referformer.datasets.transforms.formatting import PackReferInputs
from referformer.datasets.transforms.frame_sampling import (
    KeepOneMask,
    SampleAllFrames,
    SampleClipFrames,
    SampleWindow,
)
from referformer.datasets.transforms.image_to_clip import ImageToClip
from referformer.datasets.transforms.loading import (
    BaseLoadReferAnnotations,
    LoadReferAnnotations,
    LoadReferFrame,
    LoadReferVideoFrames,
)
from referformer.datasets.transforms.loading_public_sets import (
    LoadA2DAnnotations,
    LoadCocoReferAnnotations,
    LoadJHMDBAnnotations,
    LoadMeViSAnnotations,
    LoadSAVAnnotations,
)
from referformer.datasets.transforms.photometric import (
    ReferPhotoMetricDistortion,
)
from referformer.datasets.transforms.resize import (
    ReferMultiScaleCrop,
    ReferResize,
)
from referformer.datasets.transforms.text import (
    NormalizeText,
    ReferRandomFlip,
)

__all__ = [
    'BaseLoadReferAnnotations',
    'ImageToClip',
    'KeepOneMask',
    'LoadA2DAnnotations',
    'LoadCocoReferAnnotations',
    'LoadJHMDBAnnotations',
    'LoadMeViSAnnotations',
    'LoadReferAnnotations',
    'LoadReferFrame',
    'LoadReferVideoFrames',
    'LoadSAVAnnotations',
    'NormalizeText',
    'PackReferInputs',
    'ReferMultiScaleCrop',
    'ReferPhotoMetricDistortion',
    'ReferRandomFlip',
    'ReferResize',
    'SampleAllFrames',
    'SampleClipFrames',
    'SampleWindow',
]
