# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores of masks and files of masks, free of any deep-learning library.

Nothing in here imports PyTorch or the rest of the package (hence the relative
imports): ``tools/eval_masks.py`` loads this folder alone, to start in a blink
and to run where PyTorch is not installed.
"""

from .atomic import atomic_path, write_atomic
from .davis import (
    PROTOCOLS,
    FrameScores,
    MaskOutline,
    Protocol,
    SequenceScores,
    SequenceStatistics,
    VideoScores,
    boundary_accuracy,
    region_similarity,
    sequence_scores,
    sequence_statistics,
    summarize,
)
from .mask_folder import (
    MaskFolderError,
    list_frames,
    list_videos,
    match_frames,
    read_label_map,
    shorten,
)

__all__ = [
    'PROTOCOLS',
    'FrameScores',
    'MaskFolderError',
    'MaskOutline',
    'Protocol',
    'SequenceScores',
    'SequenceStatistics',
    'VideoScores',
    'atomic_path',
    'boundary_accuracy',
    'list_frames',
    'list_videos',
    'match_frames',
    'read_label_map',
    'region_similarity',
    'sequence_scores',
    'sequence_statistics',
    'shorten',
    'summarize',
    'write_atomic',
]
