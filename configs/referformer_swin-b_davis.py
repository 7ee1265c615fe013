_base_ = [
    './_base_/models/referformer_swin-b.py',
    './_base_/recipes/davis.py',
]
model = _base_.protocol
