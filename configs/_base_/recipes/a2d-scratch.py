# A2D-Sentences alone, from a pre-trained backbone: clips of six frames.
_base_ = [
    '../datasets/a2d.py',
    '../schedules/a2d-scratch_12e.py',
    '../default_runtime.py',
]

train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        pipeline=[
            dict(type='NormalizeText'),
            dict(type='SampleClipFrames', num_frames=6),
            *_base_.load_and_augment,
        ]
    ),
)
test_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleWindow', num_frames=6),
    *_base_.load_for_test,
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))

default_hooks = dict(
    checkpoint=dict(save_best='refer/mAP 0.5:0.95', rule='greater')
)
