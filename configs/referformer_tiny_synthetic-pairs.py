# First training of the quickstart: single frames, as the paper pre-trains on
# images, of pairs of objects that differ in one attribute. Between two, a
# single word decides, and soon the words have a meaning.
_base_ = [
    './_base_/models/referformer_tiny.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/quickstart.py',
    './_base_/default_runtime.py',
]

train_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleClipFrames', num_frames=1),
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
train_dataloader = dict(
    batch_size=16,
    sampler=dict(group_size=4, samples_per_epoch=4800),
    dataset=dict(
        data_root='data/quickstart/pairs/',
        clip_length=1,
        pipeline=train_pipeline,
    ),
)
