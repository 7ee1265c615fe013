# A2D-Sentences, fine-tuned from image pre-training.
_base_ = [
    '../datasets/a2d.py',
    '../schedules/a2d_6e.py',
    '../drop_class_head.py',
    '../default_runtime.py',
]
