# First training of the quickstart: single frames, as the paper pre-trains on
# images, that show two objects which differ in one attribute. One word decides
# between two objects, so the meaning of words is learnt soon.
_base_ = [
    './_base_/models/referformer_tiny.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/quickstart.py',
    './_base_/default_runtime.py',
]

train_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleClipFrames', num_frames=1),
    *_base_.load_and_augment,
]
train_dataloader = dict(
    batch_size=16,
    sampler=dict(group_size=4, samples_per_epoch=4800),
    dataset=dict(
        data_root='data/quickstart/pairs/',
        start_stride=1,
        pipeline=train_pipeline,
    ),
)
