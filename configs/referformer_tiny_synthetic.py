# Third training of the quickstart: clips of four frames. It begins with the
# weights of the second training.
_base_ = [
    './_base_/models/referformer_tiny.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/quickstart.py',
    './_base_/default_runtime.py',
]

# A batch shows only two videos, too few for batch statistics.
model = dict(backbone=dict(norm_eval=True))
optim_wrapper = dict(optimizer=dict(lr=4e-4))
param_scheduler = [
    {**_base_.param_scheduler[0], 'end': 50},
    {**_base_.param_scheduler[1], 'end': 2, 'T_max': 2},
]
train_cfg = dict(max_epochs=2)
