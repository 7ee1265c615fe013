# Third training of the example model: all but the backbone. It begins with the
# weights of the second training, which has not seen the decoders.
# docs/example_model.md tells how the model is made, tools/train_example.sh
# runs the four trainings.
_base_ = [
    '../_base_/models/referformer_temporal-resnet.py',
    '../_base_/datasets/motion-scenes.py',
    '../_base_/schedules/quickstart.py',
    '../_base_/default_runtime.py',
]

model = dict(share_frames=True, backbone=dict(frozen=True))
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        data_root='data/example/train/',
        # the expressions of the first 4000 videos
        indices=21400,
        pipeline=[
            dict(type='NormalizeText'),
            dict(type='SampleAllFrames'),
            dict(type='KeepOneMask'),
            *_base_.load_frames,
        ],
    ),
)
optim_wrapper = dict(precision='bf16', optimizer=dict(weight_decay=1e-2))
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'end': 2, 'T_max': 2},
]
train_cfg = dict(max_epochs=2)
default_hooks = dict(check_weights=dict(strict=False))
