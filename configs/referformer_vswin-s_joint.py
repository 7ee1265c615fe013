# Ref-YouTube-VOS and pseudo clips of RefCOCO, RefCOCO+ and RefCOCOg together,
# from the pretrained backbone.
_base_ = [
    './_base_/models/referformer_vswin-s.py',
    './_base_/datasets/joint.py',
    './_base_/schedules/joint_12e.py',
    './_base_/default_runtime.py',
]
