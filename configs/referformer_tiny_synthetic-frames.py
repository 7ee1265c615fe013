# Second training of the quickstart: single frames of up to four objects that
# share attributes. It begins with the weights of the first training.
_base_ = './referformer_tiny_synthetic-pairs.py'

train_dataloader = dict(dataset=dict(data_root='data/quickstart/scenes/'))
optim_wrapper = dict(optimizer=dict(lr=8e-4))
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'end': 7, 'T_max': 7},
]
train_cfg = dict(max_epochs=7)
