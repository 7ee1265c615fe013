# Synthetic referring videos of 72 x 112 pixels, written by
# tools/dataset_converters/make_synthetic_rvos.py. Frames are used as they
# are: no resize, and no change of colour, which the expressions name.
dataset_type = 'RefYouTubeVOSDataset'
data_root = 'data/quickstart/scenes/'

# Without the choice of frames, which other configs make differently.
load_and_augment = [
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='LoadReferAnnotations'),
            dict(type='ReferRandomFlip', prob=0.5),
        ],
    ),
    dict(type='PackReferInputs'),
]
train_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleClipFrames', num_frames=4),
    *load_and_augment,
]
test_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleAllFrames'),
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='LoadReferAnnotations'),
        ],
    ),
    dict(type='PackReferInputs', test_mode=True),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    # Sentences about the same frames go into one batch.
    sampler=dict(
        type='SeededSampler',
        sampler='ObjectGroupSampler',
        group_size=2,
        samples_per_epoch=1000,
    ),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='meta_expressions/train/meta_expressions.json',
        data_prefix=dict(img='train/JPEGImages', mask='train/Annotations'),
        start_stride=8,
        pipeline=train_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='meta_expressions/valid/meta_expressions.json',
        data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='ReferVOSMetric')
test_cfg = dict(type='referformer.ResumableTestLoop')
