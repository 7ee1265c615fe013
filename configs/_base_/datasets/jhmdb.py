# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# JHMDB-Sentences as in the published evaluation of A2D-Sentences models: five
# frames around each chosen one. There is no training on it.
dataset_type = 'JHMDBSentencesDataset'
data_root = 'data/jhmdb_sentences/'

test_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleWindow', num_frames=5),
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

test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='jhmdb_sentences_samples_metadata.json',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

# All queries count in AP, as published; needs the selector to keep them all
# (topk=5).
test_evaluator = dict(type='ReferSegMetric', kind='jhmdb', queries='all')
test_cfg = dict(type='TestLoop')
