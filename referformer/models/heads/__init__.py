# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Class, box and mask predictions."""

from referformer.models.heads.dynamic_mask_head import DynamicMaskHead
from referformer.models.heads.refer_head import ReferHead

__all__ = ['DynamicMaskHead', 'ReferHead']
