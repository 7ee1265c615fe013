_base_ = [
    './_base_/models/referformer_vswin-s.py',
    './_base_/recipes/ytvos-scratch.py',
]
