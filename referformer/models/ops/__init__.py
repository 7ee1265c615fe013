# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Multi-scale deformable attention, one implementation a file."""

from referformer.models.ops.choose import sample_levels
from referformer.models.ops.levels import FeatureLevels, describe_levels

__all__ = ['FeatureLevels', 'describe_levels', 'sample_levels']
