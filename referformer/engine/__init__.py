# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What drives a training besides the model: hooks, loops, samplers, optim."""

from referformer.checkpoints.mmengine_loader import use_safe_loading
from referformer.engine.hooks import (
    CheckWeightsHook,
    DeferredRuntimeInfoHook,
    DropWeightsHook,
    ReferVisualizationHook,
    ReproducibleResumeHook,
)
from referformer.engine.loops import ResumableTestLoop
from referformer.engine.optim import (
    MergedOptimWrapperConstructor,
    ReferOptimWrapper,
)
from referformer.engine.samplers import (
    ObjectGroupSampler,
    RemainingSampler,
    SeededSampler,
)

use_safe_loading()

__all__ = [
    'CheckWeightsHook',
    'DeferredRuntimeInfoHook',
    'DropWeightsHook',
    'MergedOptimWrapperConstructor',
    'ObjectGroupSampler',
    'ReferOptimWrapper',
    'ReferVisualizationHook',
    'RemainingSampler',
    'ReproducibleResumeHook',
    'ResumableTestLoop',
    'SeededSampler',
]
