# What all training on videos shares: the augmentation of a clip after its
# flip, as published, and the data loaders.
_base_ = './_test_loader.py'

augmentation = [
    # Every frame is distorted on its own.
    dict(
        type='TransformBroadcaster',
        share_random_params=False,
        transforms=[dict(type='ReferPhotoMetricDistortion')],
    ),
    dict(
        type='ReferMultiScaleCrop',
        short_side=(288, 320, 352, 392, 416, 448, 480, 512),
        max_long_side=640,
    ),
    dict(type='PackReferInputs'),
]
# The same, but colours are distorted after the resize: faster, for there are
# fewer pixels; not as published. docs/performance.md says how to take it.
augmentation_colours_last = [augmentation[1], augmentation[0], augmentation[2]]

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='SeededSampler', shuffle=True),
)
