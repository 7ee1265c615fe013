# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores of masks and files of masks, free of any deep-learning library.

Nothing in here imports PyTorch or the rest of the package (hence the relative
imports): ``tools/eval_masks.py`` loads this folder alone, to start in a blink
and to run where PyTorch is not installed.
"""

from referformer.errors import DataError
from referformer.evaluation.functional.davis import (
    PROTOCOLS,
    FrameScores,
    MaskOutline,
    Protocol,
    SequenceScores,
    SequenceStatistics,
    TrueLabels,
    VideoScores,
    boundary_accuracy,
    combine_unsupervised,
    region_similarity,
    score_frame_pairs,
    sequence_scores,
    sequence_statistics,
    summarize,
)
from referformer.evaluation.functional.expression_scores import (
    summarize_expressions,
)
from referformer.evaluation.functional.ref_davis import (
    merge_objects,
    split_annotators,
    summarize_annotators,
)
from referformer.formats.expressions import read_expressions
from referformer.formats.files import atomic_path, write_atomic
from referformer.formats.label_maps import (
    list_frames,
    list_videos,
    match_frames,
    read_binary_mask,
    read_label_map,
    shorten,
    write_label_map,
)

__all__ = [
    'PROTOCOLS',
    'DataError',
    'FrameScores',
    'MaskOutline',
    'Protocol',
    'SequenceScores',
    'SequenceStatistics',
    'TrueLabels',
    'VideoScores',
    'atomic_path',
    'boundary_accuracy',
    'combine_unsupervised',
    'list_frames',
    'list_videos',
    'match_frames',
    'merge_objects',
    'read_binary_mask',
    'read_expressions',
    'read_label_map',
    'region_similarity',
    'score_frame_pairs',
    'sequence_scores',
    'sequence_statistics',
    'shorten',
    'split_annotators',
    'summarize',
    'summarize_annotators',
    'summarize_expressions',
    'write_atomic',
    'write_label_map',
]
