# Joint training as in the published recipe: clips of Ref-YouTube-VOS, and
# images of RefCOCO, RefCOCO+ and RefCOCOg turned into pseudo clips, all of
# T = 5 and drawn with equal chance. Tests on Ref-YouTube-VOS.
_base_ = './ref-youtube-vos.py'

refcoco_root = 'data/coco/'

pseudo_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleClipFrames', num_frames=1),
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='LoadCocoReferAnnotations'),
        ],
    ),
    dict(type='ImageToClip', num_frames=5),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[dict(type='ReferRandomFlip', prob=0.5)],
    ),
    *_base_.augmentation,
]

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmengine.ConcatDataset',
        datasets=[
            dict(
                type='RefCOCODataset',
                data_root=refcoco_root,
                ann_file=[
                    'refcoco/instances_refcoco_train.json',
                    'refcoco+/instances_refcoco+_train.json',
                    'refcocog/instances_refcocog_train.json',
                ],
                data_prefix=dict(img='train2014'),
                pipeline=pseudo_pipeline,
            ),
            _base_.train_dataloader.dataset,
        ],
    ),
)
