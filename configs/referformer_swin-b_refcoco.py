# Scores the pre-trained model on RefCOCO, RefCOCO+ and RefCOCOg images:
# checkpoints/referformer_swin-b_refcoco-pretrain.pth
_base_ = [
    './_base_/models/referformer_swin-b.py',
    './_base_/datasets/refcoco.py',
    './_base_/default_runtime.py',
]

model = dict(mask_resize='two_step')
