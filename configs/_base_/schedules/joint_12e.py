# Videos and pseudo clips together: 12 epochs on 8 GPUs, one clip each.
_base_ = './ytvos_6e.py'

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
