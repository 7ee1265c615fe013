# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Optimizer wrappers."""

from referformer.engine.optim.autocast_optim_wrapper import (
    AutocastOptimWrapper,
)

__all__ = ['AutocastOptimWrapper']
