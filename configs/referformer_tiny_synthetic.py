# Second half of the quickstart: clips of four frames, from the weights the
# single frames gave (tools/quickstart.py sets load_from).
_base_ = [
    './_base_/models/referformer_tiny.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/quickstart.py',
    './_base_/default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(lr=3e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50),
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
train_cfg = dict(max_epochs=1)
