# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# Ref-YouTube-VOS as in the published recipe: T = 5, one clip per GPU, and
# whole videos at short side 360 for prediction.
_base_ = './_video_clips.py'

dataset_type = 'RefYouTubeVOSDataset'
data_root = 'data/ref-youtube-vos/'

train_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleClipFrames', num_frames=5),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='LoadReferAnnotations'),
            dict(type='ReferRandomFlip', prob=0.5),
        ],
    ),
    *_base_.augmentation,
]
# Sentences as they stand, as in the published inference; training has them in
# lower case.
test_pipeline = [
    dict(type='SampleAllFrames'),
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='ReferResize', short_side=360),
            # After the resize: the ground truth keeps its own size.
            dict(type='LoadReferAnnotations'),
        ],
    ),
    dict(type='PackReferInputs', test_mode=True),
]

train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='meta_expressions/train/meta_expressions.json',
        data_prefix=dict(img='train/JPEGImages', mask='train/Annotations'),
        meta_file='train/meta.json',
        start_stride=5,
        pipeline=train_pipeline,
    ),
)
test_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='meta_expressions/valid/meta_expressions.json',
        # The valid file also lists the videos of test.
        exclude_ann_file='meta_expressions/test/meta_expressions.json',
        expected_videos=202,
        data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'),
        # The frames of a video are read once for all its expressions.
        group_by_video=True,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

# tools/test.py needs the ground truth of the validation videos; training does
# not. Without it, write a submission: docs/datasets/ref-youtube-vos.md.
test_evaluator = dict(type='ReferVOSMetric')
