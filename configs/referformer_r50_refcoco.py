_base_ = [
    './_base_/models/referformer_r50.py',
    './_base_/recipes/refcoco.py',
]
model = _base_.protocol
