# A2D-Sentences from a Kinetics backbone: 12 epochs on 8 GPUs, one clip each,
# less weight decay.
_base_ = './ytvos_6e.py'

optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=12,
        by_epoch=True,
        milestones=[8, 10],
        gamma=0.1,
    )
]
train_cfg = dict(max_epochs=12)
