_base_ = [
    './_base_/models/referformer_vswin-s.py',
    './_base_/recipes/joint.py',
]
