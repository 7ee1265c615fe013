# Last training of the example model: relations. One sentence of nine in the
# mixture names one, too few to learn six of them. So they get videos of their
# own; a part of the mixture keeps up the rest. The backbone learns too: which
# of two objects is in front shows in their outlines, and the first training
# did not ask for that.
_base_ = './referformer_temporal-resnet_example.py'

relation_root = 'data/example/relations/'

model = dict(backbone=dict(frozen=False, norm_eval=True))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmengine.ConcatDataset',
        datasets=[
            {**_base_.train_dataloader.dataset, 'indices': 5400},
            {
                **_base_.train_dataloader.dataset,
                'indices': None,
                'data_root': relation_root,
            },
        ],
    ),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.5)})
)
