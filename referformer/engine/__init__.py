# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What drives a training besides the model: hooks and samplers."""

from referformer.engine.hooks import (
    CheckWeightsHook,
    DropWeightsHook,
    ReferVisualizationHook,
    ReproducibleResumeHook,
)
from referformer.engine.samplers import ObjectGroupSampler, SeededSampler
from referformer.utils.checkpoint import use_safe_loading

use_safe_loading()

__all__ = [
    'CheckWeightsHook',
    'DropWeightsHook',
    'ObjectGroupSampler',
    'ReferVisualizationHook',
    'ReproducibleResumeHook',
    'SeededSampler',
]
