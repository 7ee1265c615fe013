# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
default_scope = 'referformer'

default_hooks = dict(
    # Losses are read from the device when they are logged.
    runtime_info=dict(type='DeferredRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # A config with a validation adds save_best='refer/J&F', rule='greater'.
    checkpoint=dict(
        type='ReferCheckpointHook',
        interval=1,
        interval_iters=1000,
        max_keep_ckpts=3,
    ),
    # A batch without finite gradients is left out; ten in a row stop the run.
    bad_steps=dict(type='BadStepHook', max_in_row=10),
    # Counts what on_error='skip' of a dataset leaves out; 1 % stops the run.
    skipped_samples=dict(type='SkippedSamplesHook', max_share=0.01),
    # SIGTERM and SIGUSR1 save and end the run with status 75.
    save_on_signal=dict(type='SaveOnSignalHook'),
    # Command line, versions and commit: <work dir>/<time>/run.json.
    record_run=dict(type='RecordRunHook'),
    # Without a step for so long, every thread's stack is written to a file.
    stall=dict(type='StallHook', minutes=30),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # With SeededSampler, resuming repeats the uninterrupted run bit by bit.
    resume=dict(type='ReproducibleResumeHook'),
    # A resumed run says which settings of the config it takes.
    resumed_settings=dict(type='ResumedSettingsHook', new_schedule=False),
    check_weights=dict(type='CheckWeightsHook', strict=True),
    visualization=dict(type='ReferVisualizationHook'),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # Seconds after which a process that waits for the others gives up.
    dist_cfg=dict(backend='nccl', timeout=1800),
)
# Seconds to wait for a batch of a data loader's worker.
data_timeout = 1800
# A fixed seed, so that an interrupted run resumes with the same order of
# data. Another run of the same config: --cfg-options randomness.seed=1
randomness = dict(seed=0)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(
    type='ReferLocalVisualizer', vis_backends=vis_backends, name='visualizer'
)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)

log_level = 'INFO'
load_from = None
resume = False
