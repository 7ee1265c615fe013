# A2D-Sentences from a Kinetics backbone: 12 epochs on 8 GPUs, one clip each,
# less weight decay.
_base_ = './joint_12e.py'

optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
