# Pre-training on RefCOCO, RefCOCO+ and RefCOCOg (split by UMD) as in the
# published recipe: images are clips of T = 1, two per GPU. Training is scored
# on the three val splits after every epoch, as published; a test takes all.
_base_ = './refcoco.py'

dataset_type = 'RefCOCODataset'
data_root = 'data/coco/'

train_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleClipFrames', num_frames=1),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='LoadCocoReferAnnotations'),
            dict(type='ReferRandomFlip', prob=0.5),
        ],
    ),
    dict(
        type='ReferMultiScaleCrop',
        short_side=(480, 512, 544, 576, 608, 640, 672, 704, 736, 768),
        max_long_side=800,
        short_side_after_crop=(296, 328, 360, 392, 416, 448, 480, 512),
        max_long_side_after_crop=640,
    ),
    dict(type='PackReferInputs'),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=[
            'refcoco/instances_refcoco_train.json',
            'refcoco+/instances_refcoco+_train.json',
            'refcocog/instances_refcocog_train.json',
        ],
        data_prefix=dict(img='train2014'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=[
            'refcoco/instances_refcoco_val.json',
            'refcoco+/instances_refcoco+_val.json',
            'refcocog/instances_refcocog_val.json',
        ],
        data_prefix=dict(img='train2014'),
        group_by_video=True,
        test_mode=True,
        pipeline=_base_.test_pipeline,
    ),
)
val_evaluator = _base_.test_evaluator
val_cfg = dict(type='ValLoop')
