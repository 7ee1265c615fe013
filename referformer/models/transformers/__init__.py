# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Queries and transformer."""

from .conditional_queries import ConditionalQueries
from .deformable_transformer import ReferDeformableTransformer

__all__ = ['ConditionalQueries', 'ReferDeformableTransformer']
