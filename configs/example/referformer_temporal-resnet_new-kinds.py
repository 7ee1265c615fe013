# Training of the quickstart's recipe new-kinds: the example model learns
# objects that it has never seen, boats and mushrooms, and the words for them.
# It begins with the weights of the example model.
_base_ = './referformer_temporal-resnet_example.py'

# Statistics of batches of few videos differ from those of the weights.
model = dict(backbone=dict(frozen=False, norm_eval=True))
train_dataloader = dict(batch_size=16, dataset=dict(indices=None))
# Videos that are neither trained on nor scored at the end.
val_dataloader = _base_.test_dataloader
val_evaluator = _base_.test_evaluator
val_cfg = {}
optim_wrapper = dict(
    precision='fp32',
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.5)}),
)
param_scheduler = [
    {**_base_.param_scheduler[0], 'end': 20},
    {**_base_.param_scheduler[1], 'end': 3, 'T_max': 3},
]
train_cfg = dict(max_epochs=3, val_interval=1)
default_hooks = dict(logger=dict(interval=10), check_weights=dict(strict=True))
