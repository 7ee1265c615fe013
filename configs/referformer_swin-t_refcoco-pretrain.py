# Image pre-training on RefCOCO, RefCOCO+ and RefCOCOg (paper Sec. 4.1); the
# text encoder is trained too.
_base_ = [
    './_base_/models/referformer_swin-t.py',
    './_base_/datasets/refcoco-pretrain.py',
    './_base_/schedules/pretrain_12e.py',
    './_base_/default_runtime.py',
]

model = dict(text_encoder=dict(frozen=False))
