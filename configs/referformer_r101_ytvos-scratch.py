# Trained on Ref-YouTube-VOS alone, from the pretrained backbone.
_base_ = [
    './_base_/models/referformer_r101.py',
    './_base_/datasets/ref-ytvos.py',
    './_base_/schedules/scratch_10e.py',
    './_base_/default_runtime.py',
]
