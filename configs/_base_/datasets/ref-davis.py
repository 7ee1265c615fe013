# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# Ref-DAVIS17 valid, on which models of Ref-YouTube-VOS are scored. Made by
# tools/dataset_converters/davis_to_ytvos.py; training: see
# docs/datasets/ref-davis17.md.
dataset_type = 'RefDAVISDataset'
data_root = 'data/ref-davis/'

test_pipeline = [
    dict(type='NormalizeText'),
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
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='meta_expressions/valid/meta_expressions.json',
        expected_videos=30,
        data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'),
        # The masks of a video go together, those of all four annotators.
        group_by_video=True,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
# protocol='per-expression' scores each expression on its own instead, see
# docs/evaluation.md.
test_evaluator = dict(type='RefDAVISMetric', protocol='published')
test_cfg = dict(type='TestLoop')
