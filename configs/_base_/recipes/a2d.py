# A2D-Sentences, fine-tuned from image pre-training.
_base_ = [
    '../datasets/a2d.py',
    '../schedules/a2d_6e.py',
    '../drop_class_head.py',
    '../default_runtime.py',
]

default_hooks = dict(
    checkpoint=dict(save_best='refer/mAP 0.5:0.95', rule='greater')
)
