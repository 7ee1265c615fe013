# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Propagation along the optical flow; needs no training and no weights."""

from typing import Any, NamedTuple

import cv2
import numpy as np

from referformer.errors import ConfigError
from referformer.prediction.propagation.base import (
    MaskPropagator,
    MaskTracker,
    ScoredMasks,
)
from referformer.registry import TASK_UTILS


class FlowFrame(NamedTuple):
    """A frame with its flow to the frame that was encoded before it.

    Attributes:
        size (tuple[int, int]): Width and height of the picture.
        grey (np.ndarray): uint8, at the size of the flow, shape (h, w).
        origin (np.ndarray | None): Where each pixel was in the frame before,
            x and y, float32, shape (h, w, 2).
        agrees (np.ndarray | None): Whether the flow forward leads back to the
            pixel, bool, shape (h, w).
    """

    size: tuple[int, int]
    grey: np.ndarray
    origin: np.ndarray | None = None
    agrees: np.ndarray | None = None


@TASK_UTILS.register_module()
class FlowPropagator(MaskPropagator):
    """Move masks along the dense optical flow of neighbouring frames.

    The flow is that of OpenCV's `DIS <https://arxiv.org/abs/1603.03590>`_. A
    pixel of a frame gets the mask of the place it comes from. Where the flow
    forward and the flow backward disagree (`Sundaram et al., ECCV 2010
    <https://doi.org/10.1007/978-3-642-15549-9_32>`_, Eq. 5), the pixel was
    hidden in the frame before, and its origin is unknown. There it is left
    out of the mask. The score of a mask is the share that is left of the mask
    of the key frame.

    An object that has left the frame, or was hidden, is lost: its mask stays
    empty in the frames after, and has a score of 0. Therefore ``fusion`` is
    ``HigherScore`` by default, which takes the model's own mask there.

    Args:
        short_side (int): Frames are resized so that their shorter side has
            this many pixels. Smaller frames are enlarged, as the flow of
            small objects is better then.
        tolerance (float): Pixels, at this size, by which the flows may
            disagree besides 10 % of their lengths.
        fusion (dict): See :class:`MaskPropagator`.
        **rules: See :class:`MaskPropagator`.
    """

    def __init__(
        self,
        short_side: int = 120,
        tolerance: float = 4.0,
        fusion: dict | None = None,
        **rules: Any,
    ) -> None:
        super().__init__(fusion=fusion or {'type': 'HigherScore'}, **rules)
        # DIS needs some pixels for its pyramid
        if short_side < 32:
            raise ConfigError(
                f'short_side must be at least 32 pixels, got {short_side}'
            )
        if tolerance < 0:
            raise ConfigError(f'tolerance must not be below 0, {tolerance} is')
        self.short_side = short_side
        self.tolerance = tolerance

    def encode(
        self, image: np.ndarray, before: FlowFrame | None = None
    ) -> FlowFrame:
        """Compute the flow to the frame before."""
        height, width = image.shape[:2]
        scale = self.short_side / min(height, width)
        size = round(width * scale), round(height * scale)
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        grey = cv2.resize(grey, size, interpolation=_resampling(scale))
        if before is None:
            return FlowFrame((width, height), grey)
        # one object for each call: threads may not share it
        flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        flow.setFinestScale(0)
        backward = flow.calc(grey, before.grey, None)
        forward = flow.calc(before.grey, grey, None)
        origin = _grid(*size) + backward
        forward = _sample(forward, origin, cv2.BORDER_REPLICATE)
        gap = np.square(backward + forward).sum(-1)
        length = np.square(backward).sum(-1) + np.square(forward).sum(-1)
        agrees = gap <= 0.01 * length + self.tolerance**2
        return FlowFrame((width, height), grey, origin, agrees)

    def start(
        self,
        frame: FlowFrame,
        masks: np.ndarray,
        index: int,
        length: int,
        forward: MaskTracker | None = None,
    ) -> 'FlowTracker':
        """Start at a key frame; both directions are alike."""
        return FlowTracker(frame, masks)


class FlowTracker(MaskTracker):
    """Masks that move along the flow.

    Args:
        frame (FlowFrame): The key frame.
        masks (np.ndarray): bool, shape (n, H, W).
    """

    def __init__(self, frame: FlowFrame, masks: np.ndarray) -> None:
        size = frame.grey.shape[::-1]
        way = _resampling(size[0] / frame.size[0])
        self.masks = [
            cv2.resize(mask.astype(np.float32), size, interpolation=way)
            for mask in masks
        ]
        self.scores = np.ones(len(masks), np.float32)

    def step(self, frame: FlowFrame, index: int) -> ScoredMasks:
        """Carry the masks to the next frame."""
        way = _resampling(frame.size[0] / frame.grey.shape[1])
        found = []
        for n, mask in enumerate(self.masks):
            # beyond the border there is no object
            moved = _sample(mask, frame.origin, cv2.BORDER_CONSTANT)
            moved *= frame.agrees
            before, after = (mask > 0.5).sum(), (moved > 0.5).sum()
            self.scores[n] *= min(1, after / before) if before else 0
            self.masks[n] = moved
            large = cv2.resize(moved, frame.size, interpolation=way)
            found.append(large > 0.5)
        return ScoredMasks(np.stack(found), self.scores.copy())


def _resampling(scale: float) -> int:
    return cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR


def _grid(width: int, height: int) -> np.ndarray:
    """The place of every pixel, x and y, float32, shape (h, w, 2)."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x, y], -1).astype(np.float32)


def _sample(values: np.ndarray, places: np.ndarray, border: int) -> np.ndarray:
    """Interpolate between pixels."""
    return cv2.remap(values, places, None, cv2.INTER_LINEAR, borderMode=border)
