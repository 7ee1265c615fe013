_base_ = [
    './_base_/models/referformer_vswin-b.py',
    './_base_/recipes/jhmdb.py',
]
model = _base_.protocol
