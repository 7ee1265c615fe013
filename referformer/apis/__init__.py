# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Inference on your own videos."""

from referformer.apis.example import example_model
from referformer.apis.inferencer import ReferInferencer
from referformer.apis.model import init_model
from referformer.apis.results import ExpressionResult, VideoResult
from referformer.media.sources import open_source
from referformer.prediction import FrameResult, Predictor, segment_frames

__all__ = [
    'ExpressionResult',
    'FrameResult',
    'Predictor',
    'ReferInferencer',
    'VideoResult',
    'example_model',
    'init_model',
    'open_source',
    'segment_frames',
]
