_base_ = [
    './_base_/models/referformer_vswin-t.py',
    './_base_/recipes/ytvos-scratch.py',
]
