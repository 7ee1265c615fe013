# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# The second edition of MeViS, whose expressions may mean nothing: another
# file of expressions for the same videos and masks.
_base_ = './mevis.py'

data_root = 'data/mevis_v2/'

train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='train/meta_expressions_v2.json',
    ),
)
test_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='valid_u/meta_expressions_v2.json',
    ),
)
