# Ref-SAV, fine-tuned from image pre-training. The paper is
# older than the set; this is its recipe for Ref-YouTube-VOS.
_base_ = [
    '../datasets/ref-sav.py',
    '../schedules/ytvos_6e.py',
    '../drop_class_head.py',
    '../default_runtime.py',
]
