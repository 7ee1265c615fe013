# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# MeViS with the recipe of Ref-YouTube-VOS: T = 5, one clip per GPU, and whole
# videos at short side 360 for prediction.
dataset_type = 'MeViSDataset'
data_root = 'data/mevis/'
scales = (288, 320, 352, 392, 416, 448, 480, 512)

train_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleClipFrames', num_frames=5),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='LoadMeViSAnnotations'),
            dict(type='ReferRandomFlip', prob=0.5),
        ],
    ),
    # Every frame is distorted on its own.
    dict(
        type='TransformBroadcaster',
        share_random_params=False,
        transforms=[dict(type='ReferPhotoMetricDistortion')],
    ),
    # RandomChoice does not work inside a sharing broadcaster.
    dict(
        type='RandomChoice',
        transforms=[
            [
                dict(
                    type='TransformBroadcaster',
                    share_random_params=True,
                    transforms=[
                        dict(
                            type='ReferResize',
                            short_side=scales,
                            max_long_side=640,
                        ),
                    ],
                ),
            ],
            [
                dict(
                    type='TransformBroadcaster',
                    share_random_params=True,
                    transforms=[
                        dict(type='ReferResize', short_side=(400, 500, 600)),
                        dict(
                            type='mmdet.RandomCrop',
                            crop_type='absolute_range',
                            crop_size=(384, 600),
                            allow_negative_crop=True,
                        ),
                        dict(
                            type='ReferResize',
                            short_side=scales,
                            max_long_side=640,
                        ),
                    ],
                ),
            ],
        ],
    ),
    dict(type='PackReferInputs'),
]
test_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleAllFrames'),
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='ReferResize', short_side=360),
            # After the resize: the ground truth keeps its own size.
            dict(type='LoadMeViSAnnotations'),
        ],
    ),
    dict(type='PackReferInputs', test_mode=True),
]

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='train/meta_expressions.json',
        img_dir='train/JPEGImages',
        mask_file='train/mask_dict.json',
        clip_length=5,
        pipeline=train_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='valid_u/meta_expressions.json',
        img_dir='valid_u/JPEGImages',
        mask_file='valid_u/mask_dict.json',
        # Frames are seen once, whatever the number of expressions.
        group_by_video=True,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
# valid_u has ground truth. For valid, which only the server scores, write a
# submission: see docs/datasets/mevis.md.
test_evaluator = dict(type='ReferVOSMetric')
test_cfg = dict(type='TestLoop')
