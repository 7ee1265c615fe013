# Image pre-training on RefCOCO, RefCOCO+ and RefCOCOg (paper Sec. 4.1).
_base_ = [
    '../datasets/refcoco-pretrain.py',
    '../schedules/pretrain_12e.py',
    '../default_runtime.py',
]

default_hooks = dict(
    checkpoint=dict(
        save_best='refer/refcoco_val/RIS overall_iou', rule='greater'
    )
)
