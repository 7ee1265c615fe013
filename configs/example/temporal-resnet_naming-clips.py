# Second training of the example model: on clips, the backbone also learns to
# name the motion of every pixel's object. It begins with the weights of the
# first training, which knows no motion, and stands for Kinetics.
_base_ = './temporal-resnet_naming-frames.py'

# A batch shows four videos, too few for batch statistics.
model = dict(backbone=dict(norm_eval=True), classes=dict(motion=16))
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        attributes=('kind', 'colour', 'pattern', 'size', 'motion'),
        num_frames=None,
        indices=2400,
    ),
)
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
optim_wrapper = dict(optimizer=dict(lr=1e-3))
default_hooks = dict(check_weights=dict(strict=False))
