# Ref-YouTube-VOS alone, from a pre-trained backbone.
_base_ = [
    '../datasets/ref-youtube-vos.py',
    '../schedules/scratch_10e.py',
    '../default_runtime.py',
]
