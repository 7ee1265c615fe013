# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Inference on your own videos."""

from referformer.apis.inferencer import ReferInferencer, init_model
from referformer.apis.outputs import ExpressionResult, VideoResult
from referformer.media.sources import open_source
from referformer.prediction.stream import (
    FrameResult,
    StreamOptions,
    segment_frames,
)

__all__ = [
    'ExpressionResult',
    'FrameResult',
    'ReferInferencer',
    'StreamOptions',
    'VideoResult',
    'init_model',
    'open_source',
    'segment_frames',
]
