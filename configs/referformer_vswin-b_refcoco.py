_base_ = [
    './_base_/models/referformer_vswin-b.py',
    './_base_/recipes/refcoco.py',
]
model = _base_.protocol
