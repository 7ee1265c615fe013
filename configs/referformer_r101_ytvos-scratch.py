_base_ = [
    './_base_/models/referformer_r101.py',
    './_base_/recipes/ytvos-scratch.py',
]
