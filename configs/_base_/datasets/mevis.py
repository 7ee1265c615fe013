# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# MeViS with the recipe of Ref-YouTube-VOS: T = 5, one clip per GPU, and whole
# videos at short side 360 for prediction.
_base_ = './_video_clips.py'

dataset_type = 'MeViSDataset'
data_root = 'data/mevis/'

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
    *_base_.augmentation,
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
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='train/meta_expressions.json',
        img_dir='train/JPEGImages',
        mask_file='train/mask_dict.json',
        start_stride=5,
        pipeline=train_pipeline,
    ),
)
test_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='valid_u/meta_expressions.json',
        img_dir='valid_u/JPEGImages',
        mask_file='valid_u/mask_dict.json',
        # The frames of a video are read once for all its expressions.
        group_by_video=True,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

# valid_u has ground truth. Only the server scores valid: write a submission,
# see docs/datasets/mevis.md.
test_evaluator = dict(type='ReferVOSMetric')
# Settings of the model for these scores: videos go in windows of 36 frames.
protocol = dict(predictor=dict(window=36))
