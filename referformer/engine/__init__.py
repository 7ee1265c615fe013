# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What drives a training besides the model: hooks, loops, samplers, optim."""

from referformer.checkpoints.mmengine_loader import use_safe_loading
from referformer.engine.hooks.bad_step_hook import BadStepHook
from referformer.engine.hooks.check_weights_hook import CheckWeightsHook
from referformer.engine.hooks.deferred_runtime_info_hook import (
    DeferredRuntimeInfoHook,
)
from referformer.engine.hooks.drop_weights_hook import DropWeightsHook
from referformer.engine.hooks.record_run_hook import RecordRunHook
from referformer.engine.hooks.refer_checkpoint_hook import (
    ReferCheckpointHook,
)
from referformer.engine.hooks.reproducible_resume_hook import (
    ReproducibleResumeHook,
)
from referformer.engine.hooks.resumed_settings_hook import ResumedSettingsHook
from referformer.engine.hooks.save_on_signal_hook import SaveOnSignalHook
from referformer.engine.hooks.skipped_samples_hook import SkippedSamplesHook
from referformer.engine.hooks.stall_hook import StallHook
from referformer.engine.hooks.visualization_hook import ReferVisualizationHook
from referformer.engine.loops.resumable_test_loop import ResumableTestLoop
from referformer.engine.loops.resumable_train_loop import ResumableTrainLoop
from referformer.engine.optim.merged_optim_wrapper_constructor import (
    MergedOptimWrapperConstructor,
)
from referformer.engine.optim.refer_optim_wrapper import ReferOptimWrapper
from referformer.engine.samplers.object_group_sampler import ObjectGroupSampler
from referformer.engine.samplers.remaining_sampler import RemainingSampler
from referformer.engine.samplers.seeded_sampler import SeededSampler

use_safe_loading()

__all__ = [
    'BadStepHook',
    'CheckWeightsHook',
    'DeferredRuntimeInfoHook',
    'DropWeightsHook',
    'MergedOptimWrapperConstructor',
    'ObjectGroupSampler',
    'RecordRunHook',
    'ReferCheckpointHook',
    'ReferOptimWrapper',
    'ReferVisualizationHook',
    'RemainingSampler',
    'ReproducibleResumeHook',
    'ResumableTestLoop',
    'ResumableTrainLoop',
    'ResumedSettingsHook',
    'SaveOnSignalHook',
    'SeededSampler',
    'SkippedSamplesHook',
    'StallHook',
]
