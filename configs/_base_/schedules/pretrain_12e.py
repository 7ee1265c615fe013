# Image pre-training: 12 epochs on 8 GPUs, two images each.
_base_ = './joint_12e.py'

auto_scale_lr = dict(base_batch_size=16)
