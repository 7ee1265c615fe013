_base_ = [
    './_base_/models/referformer_r50-clip.py',
    './_base_/recipes/ytvos.py',
]
load_from = _base_.image_pretrained
