# Scores the pre-trained model on RefCOCO, RefCOCO+ and RefCOCOg images:
# checkpoints/referformer_swin-s_refcoco-pretrain.pth
_base_ = [
    './_base_/models/referformer_swin-s.py',
    './_base_/datasets/refcoco.py',
    './_base_/default_runtime.py',
]

model = dict(mask_resize='two_step')
