# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Rules that choose the key frames, whose masks are propagated.

A rule is called with the scores of an object in the T frames, shape (T,), and
with the frames that may be chosen, bool, shape (T,), at least one of them. It
returns the key frames in increasing order. Of several, a frame takes the mask
of the nearest.
"""

import numpy as np

from referformer.errors import ConfigError
from referformer.registry import TASK_UTILS


def _check(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f'{name} must be at least {least}, got {value}')


@TASK_UTILS.register_module()
class BestFrame:
    """The frame with the best score, as published."""

    def __call__(self, scores: np.ndarray, possible: np.ndarray) -> list[int]:
        """Choose one frame, the first of equal ones."""
        return [int(np.where(possible, scores, -1).argmax())]


@TASK_UTILS.register_module()
class BestKFrames:
    """The K frames with the best scores, some distance apart.

    Args:
        k (int): Key frames at most.
        distance (int): Frames from one key frame to the next at least.
    """

    def __init__(self, k: int = 3, distance: int = 8) -> None:
        _check('k', k, 1)
        _check('distance', distance, 1)
        self.k = k
        self.distance = distance

    def __call__(self, scores: np.ndarray, possible: np.ndarray) -> list[int]:
        """Choose the best frame, then the best of those left, and so on."""
        left, chosen = possible.copy(), []
        while left.any() and len(chosen) < self.k:
            best = int(np.where(left, scores, -1).argmax())
            chosen.append(best)
            left[max(0, best - self.distance + 1) : best + self.distance] = 0
        return sorted(chosen)


@TASK_UTILS.register_module()
class BestNeighbourhood:
    """The frame around which the mean score is best.

    A single frame with a high score among frames with low ones is often a
    mistake.

    Args:
        radius (int): Neighbours on each side. Frames that may not be chosen,
            and those outside the video, count with a score of 0.
    """

    def __init__(self, radius: int = 2) -> None:
        _check('radius', radius, 0)
        self.radius = radius

    def __call__(self, scores: np.ndarray, possible: np.ndarray) -> list[int]:
        """Choose one frame, the first of equal ones."""
        padded = np.pad(np.where(possible, scores, 0.0), self.radius)
        size = 2 * self.radius + 1
        sums = np.lib.stride_tricks.sliding_window_view(padded, size).sum(1)
        return [int(np.where(possible, sums, -1).argmax())]
