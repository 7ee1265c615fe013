_base_ = [
    './_base_/models/referformer_swin-s.py',
    './_base_/recipes/refcoco.py',
]
model = _base_.protocol
