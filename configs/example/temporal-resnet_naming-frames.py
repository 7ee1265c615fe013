# First training of the example model: on single frames, the backbone alone
# learns to name the kind, colour, pattern and size of every pixel's object.
# It stands for ImageNet, which the published models begin with.
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
    classes=dict(kind=12, colour=10, pattern=4, size=2),
)
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ObjectNamingDataset',
        data_root='data/example/',
        ann_file='train/meta.json',
        attributes=('kind', 'colour', 'pattern', 'size'),
        num_frames=1,
    ),
)
optim_wrapper = dict(
    precision='bf16', optimizer=dict(lr=2e-3, weight_decay=1e-2)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        convert_to_iter_based=True,
        begin=0,
        end=6,
        T_max=6,
        eta_min=1e-5,
    ),
]
train_cfg = dict(max_epochs=6)
