# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Typed containers of clips and their masks."""

from referformer.structures.clip import (
    ClipPredictions,
    ClipTargets,
    ConditionalQueryInputs,
    DecodedQueries,
    FrameFeatures,
    SelectedSequences,
    TextFeatures,
    TextTokens,
    VisualFeatures,
    split_expressions,
    stack_clip_targets,
)
from referformer.structures.masks import (
    FrameGeometry,
    RLEMasks,
    ScoredRLEMasks,
    SoftMasks,
    to_numpy,
)
from referformer.structures.predictions import SequencePredictions

__all__ = [
    'ClipPredictions',
    'ClipTargets',
    'ConditionalQueryInputs',
    'DecodedQueries',
    'FrameFeatures',
    'FrameGeometry',
    'RLEMasks',
    'ScoredRLEMasks',
    'SelectedSequences',
    'SequencePredictions',
    'SoftMasks',
    'TextFeatures',
    'TextTokens',
    'VisualFeatures',
    'split_expressions',
    'stack_clip_targets',
    'to_numpy',
]
