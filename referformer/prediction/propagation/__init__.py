# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Carrying the mask of a key frame through a video."""

from referformer.prediction.propagation.base import (
    MaskPropagator,
    MaskTracker,
    ScoredMasks,
    build_propagator,
    read_propagator,
)
from referformer.prediction.propagation.flow import FlowPropagator
from referformer.prediction.propagation.fusion import HigherScore, Replace
from referformer.prediction.propagation.key_frames import (
    BestFrame,
    BestKFrames,
    BestNeighbourhood,
)
from referformer.prediction.propagation.sam2 import SAM2Propagator
from referformer.prediction.propagation.video import (
    Progress,
    Video,
    no_progress,
    propagate,
)

__all__ = [
    'BestFrame',
    'BestKFrames',
    'BestNeighbourhood',
    'FlowPropagator',
    'HigherScore',
    'MaskPropagator',
    'MaskTracker',
    'Progress',
    'Replace',
    'SAM2Propagator',
    'ScoredMasks',
    'Video',
    'build_propagator',
    'no_progress',
    'propagate',
    'read_propagator',
]
