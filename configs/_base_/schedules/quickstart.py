# Minutes on two CPU cores, all weights from scratch.
optim_wrapper = dict(
    type='ReferOptimWrapper',
    constructor='MergedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        convert_to_iter_based=True,
        begin=0,
        end=4,
        T_max=4,
        eta_min=1e-5,
    ),
]
train_cfg = dict(type='referformer.ResumableTrainLoop', max_epochs=4)
auto_scale_lr = dict(enable=False, base_batch_size=16)
