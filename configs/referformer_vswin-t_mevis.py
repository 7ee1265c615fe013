# MeViS, fine-tuned from image pre-training. The paper is older than MeViS;
# this is its recipe for Ref-YouTube-VOS.
_base_ = [
    './_base_/models/referformer_vswin-t.py',
    './_base_/datasets/mevis.py',
    './_base_/schedules/ytvos_6e.py',
    './_base_/default_runtime.py',
]

model = dict(window=36)
load_from = 'checkpoints/referformer_vswin-t_refcoco-pretrain.pth'
# the class head starts anew
custom_hooks = [dict(type='DropWeightsHook', prefixes=['head.cls_branches.'])]
