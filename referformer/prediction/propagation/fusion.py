# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Rules that fuse the model's own masks with the propagated ones.

A rule is called for each frame with the own and the propagated masks of n
objects and returns masks, bool, shape (n, H, W). The score of a propagated
mask is that of its key frame times that of the tracker, so it can be compared
with the own score of the frame. A key frame keeps its own mask, and a frame
without the object an empty one, whatever the rule.
"""

import numpy as np

from referformer.prediction.propagation.base import ScoredMasks
from referformer.registry import TASK_UTILS


@TASK_UTILS.register_module()
class Replace:
    """Take the propagated mask, as published."""

    def __call__(self, own: ScoredMasks, found: ScoredMasks) -> np.ndarray:
        """Fuse the masks of a frame."""
        return found.masks


@TASK_UTILS.register_module()
class HigherScore:
    """Take the propagated mask where its score is higher."""

    def __call__(self, own: ScoredMasks, found: ScoredMasks) -> np.ndarray:
        """Fuse the masks of a frame."""
        higher = found.scores > own.scores
        return np.where(higher[:, None, None], found.masks, own.masks)
