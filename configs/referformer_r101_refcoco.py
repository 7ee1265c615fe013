# Scores the pre-trained model on RefCOCO, RefCOCO+ and RefCOCOg images:
# checkpoints/referformer_r101_refcoco-pretrain.pth
_base_ = [
    './_base_/models/referformer_r101.py',
    './_base_/datasets/refcoco.py',
    './_base_/default_runtime.py',
]

model = dict(mask_resize='two_step')
