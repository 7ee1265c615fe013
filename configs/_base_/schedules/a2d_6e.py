# Fine-tuning on A2D-Sentences: 6 epochs on 8 GPUs, two clips each.
_base_ = './ytvos_6e.py'

auto_scale_lr = dict(base_batch_size=16)
