# Ref-YouTube-VOS from an ImageNet or Kinetics backbone: 10 epochs on 8 GPUs,
# one clip each.
_base_ = './ytvos_6e.py'

param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=10,
        by_epoch=True,
        milestones=[6, 8],
        gamma=0.1,
    )
]
train_cfg = dict(max_epochs=10)
