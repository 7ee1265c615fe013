# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# JHMDB-Sentences as in the published evaluation of A2D-Sentences models: five
# frames around each chosen one. There is no training on it.
_base_ = './_test_loader.py'

data_root = 'data/jhmdb_sentences/'

# Without the choice of frames, which other configs make differently.
load_for_test = [
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='ReferResize', short_side=360, max_long_side=640),
            # After the resize: the ground truth keeps its own size.
            dict(type='LoadJHMDBAnnotations'),
        ],
    ),
    dict(type='PackReferInputs', test_mode=True),
]

test_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleWindow', num_frames=5),
    *load_for_test,
]

test_dataloader = dict(
    dataset=dict(
        type='JHMDBSentencesDataset',
        data_root=data_root,
        ann_file='jhmdb_sentences_samples_metadata.json',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

test_evaluator = dict(type='ReferSegMetric', kind='jhmdb', queries='all')
# Settings of the model for these scores: the published mAP ranks all five
# queries of an expression, and masks are resized in two steps.
protocol = dict(mask_resize='two_step', head=dict(selector=dict(topk=5)))
