# Last training of the example model: all of it, the backbone too. It begins
# with the weights of the fifth training. docs/example_model.md tells how the
# model is made, referformer/testing/example.py runs the six trainings.
_base_ = './referformer_temporal-resnet_words.py'

# A batch shows five videos, too few for batch statistics.
model = dict(backbone=dict(frozen=False, norm_eval=True))
train_dataloader = dict(sampler=dict(samples_per_epoch=1280))
optim_wrapper = dict(optimizer=dict(lr=6e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=10),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        convert_to_iter_based=True,
        begin=0,
        end=1,
        T_max=1,
        eta_min=1e-5,
    ),
]
