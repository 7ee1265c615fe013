# Ref-YouTube-VOS, fine-tuned from image pre-training (paper Sec. 4.1).
_base_ = [
    '../datasets/ref-youtube-vos.py',
    '../schedules/ytvos_6e.py',
    '../drop_class_head.py',
    '../default_runtime.py',
]
