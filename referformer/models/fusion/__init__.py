# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Early fusion of vision and language."""

from referformer.models.fusion.vision_language_fusion import (
    VisionLanguageFusion,
)

__all__ = ['VisionLanguageFusion']
