_base_ = [
    './_base_/models/referformer_swin-l.py',
    './_base_/recipes/davis.py',
]
model = _base_.protocol
