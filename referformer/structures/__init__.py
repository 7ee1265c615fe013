# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Typed containers of clips."""

from .clip import (
    ClipPredictions,
    ClipTargets,
    ConditionalQueryInputs,
    DecodedQueries,
    FrameFeatures,
    SelectedSequences,
    TextFeatures,
    TextTokens,
    VisualFeatures,
    stack_clip_targets,
)

__all__ = [
    'ClipPredictions',
    'ClipTargets',
    'ConditionalQueryInputs',
    'DecodedQueries',
    'FrameFeatures',
    'SelectedSequences',
    'TextFeatures',
    'TextTokens',
    'VisualFeatures',
    'stack_clip_targets',
]
