# Ref-YouTube-VOS and pseudo clips of RefCOCO, RefCOCO+ and RefCOCOg together,
# from a pre-trained backbone.
_base_ = [
    '../datasets/joint.py',
    '../schedules/joint_12e.py',
    '../default_runtime.py',
]
