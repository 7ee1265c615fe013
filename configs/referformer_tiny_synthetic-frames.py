# Second training of the quickstart: single frames of up to four objects that
# share attributes. It begins with the weights of the first training.
_base_ = './referformer_tiny_synthetic-pairs.py'

train_dataloader = dict(dataset=dict(data_root='data/quickstart/scenes/'))
optim_wrapper = dict(optimizer=dict(lr=8e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        convert_to_iter_based=True,
        begin=0,
        end=7,
        T_max=7,
        eta_min=1e-5,
    ),
]
train_cfg = dict(max_epochs=7)
