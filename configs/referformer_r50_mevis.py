_base_ = [
    './_base_/models/referformer_r50.py',
    './_base_/recipes/mevis.py',
]
load_from = _base_.image_pretrained
model = _base_.protocol
