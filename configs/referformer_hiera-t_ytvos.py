_base_ = [
    './_base_/models/referformer_hiera-t.py',
    './_base_/recipes/ytvos.py',
]
load_from = _base_.image_pretrained
