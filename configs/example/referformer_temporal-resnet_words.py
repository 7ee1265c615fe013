# Fourth training of the example model: all but the backbone, still on one
# frame of each clip. It begins with the weights of the third training, which
# has not seen the decoders.
_base_ = [
    '../_base_/models/referformer_temporal-resnet.py',
    '../_base_/datasets/motion-scenes.py',
    '../_base_/schedules/quickstart.py',
    '../_base_/default_runtime.py',
]

model = dict(share_frames=True, backbone=dict(frozen=True))
train_dataloader = dict(
    batch_size=16,
    sampler=dict(samples_per_epoch=3200),
    dataset=dict(
        pipeline=[
            dict(type='NormalizeText'),
            dict(type='SampleAllFrames'),
            dict(type='KeepOneMask'),
            *_base_.load_frames,
        ],
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        convert_to_iter_based=True,
        begin=0,
        end=1,
        T_max=1,
        eta_min=1e-5,
    ),
]
train_cfg = dict(max_epochs=1)
# The third training has other last layers.
default_hooks = dict(check_weights=dict(strict=False))
