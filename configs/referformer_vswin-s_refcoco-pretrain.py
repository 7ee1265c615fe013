_base_ = [
    './_base_/models/referformer_vswin-s.py',
    './_base_/recipes/refcoco-pretrain.py',
]
model = dict(text_encoder=dict(frozen=False), **_base_.protocol)
