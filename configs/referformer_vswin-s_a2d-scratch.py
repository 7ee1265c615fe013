_base_ = [
    './_base_/models/referformer_vswin-s.py',
    './_base_/recipes/a2d-scratch.py',
]
model = dict(transformer=dict(dropout=0.0), **_base_.protocol)
