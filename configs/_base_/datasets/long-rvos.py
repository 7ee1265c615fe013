# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# Long-RVOS with the recipe of Ref-YouTube-VOS. Videos of a minute go in
# windows of 36 frames.
_base_ = './ref-youtube-vos.py'

dataset_type = 'LongRVOSDataset'
data_root = 'data/long_rvos/'

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        ann_file='train/meta_expressions.json',
        data_prefix=dict(img='train/JPEGImages', mask='train/Annotations'),
        start_stride=5,
        pipeline=_base_.train_pipeline,
    ),
)
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        ann_file='valid/meta_expressions.json',
        data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'),
        # The frames of a video are read once for all its expressions.
        group_by_video=True,
        test_mode=True,
        pipeline=_base_.test_pipeline,
    ),
)
protocol = dict(predictor=dict(window=36))
