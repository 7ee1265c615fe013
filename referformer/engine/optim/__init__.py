# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Optimizer wrappers and how they are built."""

from referformer.engine.optim.merged_optim_wrapper_constructor import (
    MergedOptimWrapperConstructor,
    merge_groups,
)
from referformer.engine.optim.refer_optim_wrapper import ReferOptimWrapper

__all__ = [
    'MergedOptimWrapperConstructor',
    'ReferOptimWrapper',
    'merge_groups',
]
