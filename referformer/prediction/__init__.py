# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A model over whole videos, in bounded memory."""

from referformer.prediction.predictor import Predictor
from referformer.prediction.stream import (
    FrameResult,
    ask_frames,
    see_frames,
    segment_frames,
)

__all__ = [
    'FrameResult',
    'Predictor',
    'ask_frames',
    'see_frames',
    'segment_frames',
]
