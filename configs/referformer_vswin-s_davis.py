# Scores the model of Ref-YouTube-VOS on Ref-DAVIS17, without training:
# checkpoints/referformer_vswin-s_ytvos.pth
_base_ = [
    './_base_/models/referformer_vswin-s.py',
    './_base_/datasets/ref-davis.py',
    './_base_/default_runtime.py',
]

model = dict(window=36)
