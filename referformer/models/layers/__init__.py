# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Layers shared by several parts."""

from referformer.models.layers.attention import MultiheadAttention
from referformer.models.layers.checkpointing import run_layer
from referformer.models.layers.deformable_attention import (
    MultiScaleDeformableAttention,
    sample_levels,
)
from referformer.models.layers.linear import (
    FFN,
    linear,
    relu_dropout,
    tokens_per_part,
)
from referformer.models.layers.positional_encoding import (
    SinePositionalEncoding1D,
)

__all__ = [
    'FFN',
    'MultiScaleDeformableAttention',
    'MultiheadAttention',
    'SinePositionalEncoding1D',
    'linear',
    'relu_dropout',
    'run_layer',
    'sample_levels',
    'tokens_per_part',
]
