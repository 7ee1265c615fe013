# Ref-DAVIS17, without training: for models of Ref-YouTube-VOS.
_base_ = [
    '../datasets/ref-davis.py',
    '../default_runtime.py',
]
