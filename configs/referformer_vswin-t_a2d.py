# A2D-Sentences, fine-tuned from image pre-training.
_base_ = [
    './_base_/models/referformer_vswin-t.py',
    './_base_/datasets/a2d.py',
    './_base_/schedules/a2d_6e.py',
    './_base_/default_runtime.py',
]

model = dict(
    mask_resize='two_step',
    # the published mAP ranks all five queries of an expression
    head=dict(selector=dict(topk=5)),
)
load_from = 'checkpoints/referformer_vswin-t_refcoco-pretrain.pth'
# the class head starts anew
custom_hooks = [dict(type='DropWeightsHook', prefixes=['head.cls_branches.'])]
