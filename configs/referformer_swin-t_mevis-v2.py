_base_ = [
    './_base_/models/referformer_swin-t.py',
    './_base_/recipes/mevis-v2.py',
]
load_from = _base_.image_pretrained
model = _base_.protocol
