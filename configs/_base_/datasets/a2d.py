# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# A2D-Sentences as in the published fine-tuning: T = 5 frames that hold the
# annotated one, two clips per GPU, and T consecutive frames for prediction.
_base_ = './_video_clips.py'

dataset_type = 'A2DSentencesDataset'
data_root = 'data/a2d_sentences/'

# Without the choice of frames, which other configs make differently.
load_and_augment = [
    dict(type='LoadReferVideoFrames'),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadA2DAnnotations'),
            dict(type='ReferRandomFlip', prob=0.5),
        ],
    ),
    *_base_.augmentation,
]
load_for_test = [
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

train_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleClipFrames', num_frames=5),
    *load_and_augment,
]
test_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleWindow', num_frames=5),
    *load_for_test,
]

train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='a2d_sentences_single_frame_train_annotations.json',
        pipeline=train_pipeline,
    ),
)
test_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='a2d_sentences_single_frame_test_annotations.json',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

test_evaluator = dict(type='ReferSegMetric', kind='a2d', queries='all')
# Training is scored on the same data after every epoch, as published.
val_dataloader = test_dataloader
val_evaluator = test_evaluator
val_cfg = dict(type='ValLoop')
# Settings of the model for these scores: the published mAP ranks all five
# queries of an expression, and masks are resized in two steps.
protocol = dict(mask_resize='two_step', head=dict(selector=dict(topk=5)))
