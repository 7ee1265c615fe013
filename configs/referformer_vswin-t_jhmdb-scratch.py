_base_ = [
    './_base_/models/referformer_vswin-t.py',
    './_base_/recipes/jhmdb-scratch.py',
]
model = _base_.protocol
