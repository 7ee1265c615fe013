_base_ = [
    './_base_/models/referformer_vswin-b.py',
    './_base_/recipes/a2d.py',
]
load_from = _base_.image_pretrained
model = _base_.protocol
