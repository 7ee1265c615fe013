# JHMDB-Sentences, without training: for models of A2D-Sentences.
_base_ = [
    '../datasets/jhmdb.py',
    '../default_runtime.py',
]
