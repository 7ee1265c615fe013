# Pre-training on RefCOCO, RefCOCO+ and RefCOCOg (split by UMD) as in the
# published recipe: images are clips of T = 1, two per GPU.
dataset_type = 'RefCOCODataset'
data_root = 'data/coco/'

train_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleClipFrames', num_frames=1),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='LoadCocoReferAnnotations'),
            dict(type='ReferRandomFlip', prob=0.5),
        ],
    ),
    # RandomChoice does not work inside a sharing broadcaster.
    dict(
        type='RandomChoice',
        transforms=[
            [
                dict(
                    type='TransformBroadcaster',
                    share_random_params=True,
                    transforms=[
                        dict(
                            type='ReferResize',
                            short_side=tuple(range(480, 769, 32)),
                            max_long_side=800,
                        ),
                    ],
                ),
            ],
            [
                dict(
                    type='TransformBroadcaster',
                    share_random_params=True,
                    transforms=[
                        dict(type='ReferResize', short_side=(400, 500, 600)),
                        dict(
                            type='mmdet.RandomCrop',
                            crop_type='absolute_range',
                            crop_size=(384, 600),
                            allow_negative_crop=True,
                        ),
                        dict(
                            type='ReferResize',
                            short_side=(
                                *(296, 328, 360, 392),
                                *(416, 448, 480, 512),
                            ),
                            max_long_side=640,
                        ),
                    ],
                ),
            ],
        ],
    ),
    dict(type='PackReferInputs'),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=[
            'refcoco/instances_refcoco_train.json',
            'refcoco+/instances_refcoco+_train.json',
            'refcocog/instances_refcocog_train.json',
        ],
        data_prefix=dict(img='train2014'),
        pipeline=train_pipeline,
    ),
)
