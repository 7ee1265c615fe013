# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores of masks, free of any deep-learning library.

``kernel`` compares two masks, ``tracks`` the objects of a frame or a video,
``protocols`` says how label maps are matched and averaged,
``expression_scores`` has the measures of expressions, ``segm`` those of COCO;
``label_folders`` and ``expression_masks`` score files, and ``comparison``
compares two results. ``commands`` are those of ``tools/eval_masks.py``, whose
help must not wait for numpy: hence names are imported on first use.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    'MaskOutline': 'kernel',
    'boundary_accuracy': 'kernel',
    'region_similarity': 'kernel',
    'SequenceScores': 'tracks',
    'SequenceStatistics': 'tracks',
    'TargetScores': 'tracks',
    'TrueLabels': 'tracks',
    'VideoScores': 'tracks',
    'score_targets': 'tracks',
    'sequence_scores': 'tracks',
    'sequence_statistics': 'tracks',
    'PROTOCOLS': 'protocols',
    'LabelProtocol': 'protocols',
    'merge_objects': 'protocols',
    'summarize': 'protocols',
    'summarize_annotators': 'protocols',
    'ExpressionProtocol': 'expression_scores',
    'mean_scores': 'expression_scores',
    'measure_expression': 'expression_scores',
    'split_annotators': 'expression_scores',
    'summarize_expressions': 'expression_scores',
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)
