# Scores the pre-trained model on RefCOCO, RefCOCO+ and RefCOCOg images:
# checkpoints/referformer_r50_refcoco-pretrain.pth
_base_ = [
    './_base_/models/referformer_r50.py',
    './_base_/datasets/refcoco.py',
    './_base_/default_runtime.py',
]

model = dict(mask_resize='two_step')
