_base_ = [
    './_base_/models/referformer_swin-s.py',
    './_base_/recipes/joint.py',
]
