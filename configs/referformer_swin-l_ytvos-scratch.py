_base_ = [
    './_base_/models/referformer_swin-l.py',
    './_base_/recipes/ytvos-scratch.py',
]
