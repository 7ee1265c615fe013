# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Matching and selection of sequences."""

from referformer.models.task_modules.sequence_matcher import (
    InstanceSequenceMatcher,
)
from referformer.models.task_modules.sequence_selector import MeanScoreSelector

__all__ = ['InstanceSequenceMatcher', 'MeanScoreSelector']
