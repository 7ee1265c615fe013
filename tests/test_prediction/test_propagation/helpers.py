# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Masks, videos and propagators for the tests of propagation."""

import numpy as np

from referformer.formats.coco import encode_masks
from referformer.prediction.propagation import (
    MaskPropagator,
    MaskTracker,
    ScoredMasks,
    Video,
    propagate,
)
from referformer.structures import RLEMasks

SIZE = (32, 48)


def box(x, y=8, width=12, height=12, size=SIZE):
    """A mask that is a box, cut off at the border."""
    mask = np.zeros(size, bool)
    mask[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)] = True
    return mask


def textured(masks, seed=0):
    """Pictures in which the patterned boxes of masks (T, H, W) move."""
    rng = np.random.default_rng(seed)
    height, width = masks.shape[1:]
    ground = rng.integers(60, 120, (height, width, 3))
    paint = rng.integers(100, 256, (height, 3 * width, 3))
    frames = []
    for mask in masks:
        left = int(mask.any(0).argmax())
        shown = np.roll(paint, left, 1)[:, :width]
        frames.append(np.where(mask[..., None], shown, ground))
    return np.array(frames, np.uint8)


def encoded(masks):
    """Own masks (T, E, H, W) as the predictor hands them over."""
    return [RLEMasks(encode_masks(each), each.shape[1:]) for each in masks]


def video_of(frames, bytes_=None):
    return Video(
        len(frames),
        lambda numbers: (frames[i] for i in numbers),
        bytes_ or frames[0].nbytes,
    )


def run(propagator, frames, masks, scores):
    """Propagate; masks (T, E, H, W), scores (T, E)."""
    fused = propagate(
        propagator,
        video_of(frames),
        encoded(np.asarray(masks)),
        np.asarray(scores, float),
        'cpu',
    )
    return np.stack([each.to_ndarray() for each in fused])


class Stay(MaskPropagator):
    """Masks that do not move, and a list of what was called."""

    def __init__(self, sure=1.0, **rules):
        super().__init__(**rules)
        self.sure = sure
        self.calls = []

    def encode(self, image, before=None):
        number = int(image[0, 0, 0])
        self.calls.append(('encode', number, before))
        return number

    def start(self, frame, masks, index, length, forward=None):
        self.calls.append(('start', index, forward is not None))
        return StayTracker(self, masks)


class StayTracker(MaskTracker):
    def __init__(self, propagator, masks):
        self.propagator = propagator
        self.masks = masks

    def step(self, frame, index):
        self.propagator.calls.append(('step', index, len(self.masks)))
        sure = np.full(len(self.masks), self.propagator.sure)
        return ScoredMasks(self.masks, sure)


def numbered(length):
    """Pictures that tell their number."""
    frames = np.zeros((length, *SIZE, 3), np.uint8)
    frames[:, 0, 0, 0] = range(length)
    return frames
