# Fifth training of the example model: which pixels are meant, as the third
# training, but the backbone learns with it. It begins with the weights of the
# fourth training.
_base_ = './referformer_temporal-resnet_grounding.py'

# A batch shows nine videos, too few for batch statistics.
model = dict(backbone=dict(frozen=False, norm_eval=True, init_cfg=None))
train_dataloader = dict(sampler=dict(samples_per_epoch=9600))
optim_wrapper = dict(
    optimizer=dict(lr=1.2e-3),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.5)}),
)
