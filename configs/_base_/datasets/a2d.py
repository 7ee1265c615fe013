# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# A2D-Sentences as in the published fine-tuning: T = 5 frames that hold the
# annotated one, two clips per GPU, and T consecutive frames for prediction.
dataset_type = 'A2DSentencesDataset'
data_root = 'data/a2d_sentences/'
scales = (288, 320, 352, 392, 416, 448, 480, 512)

train_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleClipFrames', num_frames=5),
    dict(type='LoadReferVideoFrames'),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadA2DAnnotations'),
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
    dict(type='SampleWindow', num_frames=5),
    dict(type='LoadReferVideoFrames'),
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='ReferResize', short_side=360, max_long_side=640),
            # After the resize: the ground truth keeps its own size.
            dict(type='LoadA2DAnnotations'),
        ],
    ),
    dict(type='PackReferInputs', test_mode=True),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='a2d_sentences_single_frame_train_annotations.json',
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
        ann_file='a2d_sentences_single_frame_test_annotations.json',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

# All queries count in AP, as published; needs the selector to keep them all
# (topk=5).
test_evaluator = dict(type='ReferSegMetric', kind='a2d', queries='all')
test_cfg = dict(type='TestLoop')
