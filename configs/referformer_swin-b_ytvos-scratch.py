_base_ = [
    './_base_/models/referformer_swin-b.py',
    './_base_/recipes/ytvos-scratch.py',
]
