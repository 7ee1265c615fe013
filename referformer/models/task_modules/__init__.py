# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Matching and selection of sequences."""

from .sequence_matcher import InstanceSequenceMatcher
from .sequence_selector import MeanScoreSelector

__all__ = ['InstanceSequenceMatcher', 'MeanScoreSelector']
