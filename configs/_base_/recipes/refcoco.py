# RefCOCO, RefCOCO+ and RefCOCOg images, without training: for pre-trained
# models.
_base_ = [
    '../datasets/refcoco.py',
    '../default_runtime.py',
]
