# Fine-tuning on Ref-YouTube-VOS: 6 epochs on 8 GPUs, one clip each.
optim_wrapper = dict(
    type='ReferOptimWrapper',
    constructor='MergedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=5e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(
        custom_keys=dict(
            backbone=dict(lr_mult=0.5),
            language_model=dict(lr_mult=0.1),
            reference_points=dict(lr_mult=1.0),
            sampling_offsets=dict(lr_mult=1.0),
        )
    ),
)
param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=6,
        by_epoch=True,
        milestones=[3, 5],
        gamma=0.1,
    )
]
train_cfg = dict(type='referformer.ResumableTrainLoop', max_epochs=6)
auto_scale_lr = dict(enable=False, base_batch_size=8)
