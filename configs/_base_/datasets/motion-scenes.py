# Drawn videos whose expressions need motion and relations, 8 frames of
# 128 x 192 pixels, written by tools/dataset_converters/make_motion_scenes.py.
# Frames are trained on as they are: no resize, no flip ("left of"), and no
# change of colour, which the expressions name.
_base_ = './synthetic.py'

data_root = 'data/motion_scenes/'
load_frames = [
    dict(
        type='TransformBroadcaster',
        transforms=[
            # four expressions of a clip come one after another
            dict(type='LoadReferFrame', keep=8),
            dict(type='LoadReferAnnotations'),
        ],
    ),
    dict(type='PackReferInputs'),
]
train_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleAllFrames'),
    *load_frames,
]
# Other videos are brought to the size of the drawn ones.
test_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleAllFrames'),
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='ReferResize', short_side=128, max_long_side=256),
            dict(type='LoadReferAnnotations'),
        ],
    ),
    dict(type='PackReferInputs', test_mode=True),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(group_size=4, samples_per_epoch=None),
    dataset=dict(
        data_root=data_root, start_stride=1000, pipeline=train_pipeline
    ),
)
test_dataloader = dict(dataset=dict(data_root=data_root, group_by_video=True))
test_evaluator = dict(type='ReferVOSMetric', group_by='cue')
