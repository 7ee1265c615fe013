_base_ = [
    './_base_/models/referformer_swin-t.py',
    './_base_/recipes/refcoco.py',
]
model = _base_.protocol
