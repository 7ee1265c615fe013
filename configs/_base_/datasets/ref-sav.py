# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# Ref-SAV with the recipe of MeViS: trained on video files of SA-V, scored on
# the evaluation set, which has the layout of MeViS.
_base_ = './mevis.py'

data_root = 'data/ref_sav/'

train_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleClipFrames', num_frames=5),
    dict(type='LoadReferVideoFrames'),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadSAVAnnotations'),
            dict(type='ReferRandomFlip', prob=0.5),
        ],
    ),
    *_base_.augmentation,
]

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RefSAVDataset',
        data_root=data_root,
        ann_file='Ref-SAV.json',
        img_dir='sam_v_full',
        start_stride=5,
        pipeline=train_pipeline,
    ),
)
test_dataloader = dict(
    dataset=dict(
        type='RefSAVEvalDataset',
        data_root=data_root,
        ann_file='ref_sav_eval/meta_expressions_valid.json',
        img_dir='ref_sav_eval/videos',
        mask_file='ref_sav_eval/mask_dict.json',
    ),
)

# The authors report long and short expressions apart.
test_evaluator = dict(type='ReferVOSMetric')
