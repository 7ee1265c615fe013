"""The published ResNet-50 recipe on a set with a folder per object."""

_base_ = '../../../configs/referformer_r50_ytvos-scratch.py'

custom_imports = dict(imports=['projects.example_dataset.object_folders'])

data_root = 'data/object-folders/'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ObjectFoldersDataset',
        data_root=data_root,
        ann_file='train/meta_expressions.json',
        data_prefix=dict(img='train/JPEGImages', mask='train/Annotations'),
        start_stride=5,
        pipeline=_base_.train_pipeline,
    )
)
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ObjectFoldersDataset',
        data_root=data_root,
        ann_file='valid/meta_expressions.json',
        data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'),
        group_by_video=True,
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
