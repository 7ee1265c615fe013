# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Layers shared by several parts."""

from referformer.models.layers.attention import MultiheadAttention
from referformer.models.layers.deformable_attention import (
    MultiScaleDeformableAttention,
)
from referformer.models.layers.ffn import FFN
from referformer.models.layers.linear import Linear
from referformer.models.layers.mask_features import (
    MaskFeatures,
    filter_maps,
    make_mask_features,
)
from referformer.models.layers.memory import call_checkpointed, call_in_parts
from referformer.models.layers.positional_encoding import (
    SinePositionalEncoding1D,
)

__all__ = [
    'FFN',
    'Linear',
    'MaskFeatures',
    'MultiScaleDeformableAttention',
    'MultiheadAttention',
    'SinePositionalEncoding1D',
    'call_checkpointed',
    'call_in_parts',
    'filter_maps',
    'make_mask_features',
]
