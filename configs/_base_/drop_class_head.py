# Fine-tuning from image pre-training: the class head starts anew.
custom_hooks = [dict(type='DropWeightsHook', prefixes=['head.cls_branches.'])]
