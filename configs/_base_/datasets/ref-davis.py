# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# Ref-DAVIS17 valid, on which models of Ref-YouTube-VOS are scored. Made by
# tools/dataset_converters/davis_to_ytvos.py; training: see
# docs/datasets/ref-davis17.md.
_base_ = './_test_loader.py'

dataset_type = 'RefDAVISDataset'
data_root = 'data/ref-davis/'

# Sentences as they stand, as in the published inference.
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
test_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='meta_expressions/valid/meta_expressions.json',
        expected_videos=30,
        data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'),
        # The metric needs all expressions of a video, of all annotators.
        group_by_video=True,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
# protocol='per-expression' scores each expression on its own instead, see
# docs/evaluation.md.
test_evaluator = dict(type='RefDAVISMetric', protocol='published')
# Settings of the model for these scores: videos go in windows of 36 frames.
protocol = dict(predictor=dict(window=36))
