# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# ReVOS with the recipe of MeViS. One folder and one table of masks for both
# splits.
_base_ = './mevis.py'

dataset_type = 'ReVOSDataset'
data_root = 'data/revos/'

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type=dataset_type,
        data_root=data_root,
        ann_file='meta_expressions_train_.json',
        img_dir='JPEGImages',
        mask_file='mask_dict.json',
        start_stride=5,
        pipeline=_base_.train_pipeline,
    ),
)
test_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='meta_expressions_valid_.json',
        img_dir='JPEGImages',
        mask_file='mask_dict.json',
    ),
)

# The authors report referring and reasoning expressions apart.
test_evaluator = dict(type='ReferVOSMetric')
