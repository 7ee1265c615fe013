# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Layers shared by several parts."""

from .attention import MultiheadAttention
from .positional_encoding import SinePositionalEncoding1D

__all__ = ['MultiheadAttention', 'SinePositionalEncoding1D']
