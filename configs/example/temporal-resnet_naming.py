# First training of the example model: the backbone alone learns to name the
# kind, colour, pattern, size and motion of the object of every pixel. It
# stands for ImageNet and Kinetics, which the published models begin with.
_base_ = [
    '../_base_/models/referformer_temporal-resnet.py',
    '../_base_/schedules/quickstart.py',
    '../_base_/default_runtime.py',
]
custom_imports = dict(imports=['referformer.testing.naming'])

model = dict(
    _delete_=True,
    type='ObjectNaming',
    backbone=_base_.model.backbone,
    in_channels=(24, 48, 96, 128),
    classes=dict(kind=12, colour=10, pattern=4, size=2, motion=16),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ObjectNamingDataset',
        data_root='data/example/train/',
        ann_file='train/meta.json',
        attributes=('kind', 'colour', 'pattern', 'size', 'motion'),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=1e-2))
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'end': 8, 'T_max': 8},
]
# ends an epoch before the cosine does
train_cfg = dict(max_epochs=7)
