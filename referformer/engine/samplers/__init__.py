# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Samplers."""

from referformer.engine.samplers.object_group_sampler import (
    ObjectGroupSampler,
)
from referformer.engine.samplers.remaining_sampler import RemainingSampler
from referformer.engine.samplers.seeded_sampler import SeededSampler

__all__ = ['ObjectGroupSampler', 'RemainingSampler', 'SeededSampler']
