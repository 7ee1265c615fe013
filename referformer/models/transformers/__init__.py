# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Queries and transformer."""

from referformer.models.transformers.conditional_queries import (
    ConditionalQueries,
)
from referformer.models.transformers.deformable_transformer import (
    ReferDeformableTransformer,
)

__all__ = ['ConditionalQueries', 'ReferDeformableTransformer']
