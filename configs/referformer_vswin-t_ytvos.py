# Fine-tuned from image pre-training (paper Sec. 4.1).
_base_ = [
    './_base_/models/referformer_vswin-t.py',
    './_base_/datasets/ref-ytvos.py',
    './_base_/schedules/ytvos_6e.py',
    './_base_/default_runtime.py',
]

load_from = 'checkpoints/referformer_vswin-t_refcoco-pretrain.pth'
# the class head starts anew
custom_hooks = [dict(type='DropWeightsHook', prefixes=['head.cls_branches.'])]
