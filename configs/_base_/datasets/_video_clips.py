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

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='SeededSampler', shuffle=True),
)
