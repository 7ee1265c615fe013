# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Prediction for whole videos, in bounded memory."""

from referformer.prediction.encoded_video import (
    EncodedVideo,
    FeatureMemory,
)
from referformer.prediction.predictor import Predictor
from referformer.prediction.stream import (
    FrameResult,
    encode_video,
    predict_video,
    propagate_results,
    segment_frames,
)

__all__ = [
    'EncodedVideo',
    'FeatureMemory',
    'FrameResult',
    'Predictor',
    'encode_video',
    'predict_video',
    'propagate_results',
    'segment_frames',
]
