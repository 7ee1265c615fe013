# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hooks, one per file."""

from referformer.engine.hooks.check_weights_hook import CheckWeightsHook
from referformer.engine.hooks.deferred_runtime_info_hook import (
    DeferredRuntimeInfoHook,
)
from referformer.engine.hooks.drop_weights_hook import DropWeightsHook
from referformer.engine.hooks.reproducible_resume_hook import (
    ReproducibleResumeHook,
)
from referformer.engine.hooks.visualization_hook import ReferVisualizationHook

__all__ = [
    'CheckWeightsHook',
    'DeferredRuntimeInfoHook',
    'DropWeightsHook',
    'ReferVisualizationHook',
    'ReproducibleResumeHook',
]
