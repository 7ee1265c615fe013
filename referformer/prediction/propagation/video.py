# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Propagating the predictions for a video.

.. code-block:: text

    own masks, scores ─ key frames ─ forward ─ backward ─ fusion ─ masks
                                        └── frames, read again ──┘

Frames are read again in each direction and never kept, and masks are run-
length encoded. So the memory hardly depends on the length of the video.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from referformer.formats.coco import encode_masks
from referformer.prediction.background import (
    QUEUE_BYTES,
    prefetch,
    queue_depth,
)
from referformer.prediction.propagation.base import (
    MaskPropagator,
    MaskTracker,
    ScoredMasks,
)
from referformer.structures import RLEMasks, ScoredRLEMasks

Progress = Callable[[str, int, Iterable], Iterable]
"""What is done, number of steps, the steps -> the steps, shown."""

#: What was propagated to a frame: object -> encoded mask and score.
_Found = dict[int, tuple[dict, float]]


def no_progress(what: str, total: int, steps: Iterable) -> Iterable:
    """Show nothing."""
    return steps


class Video(NamedTuple):
    """The pictures of a video, read when they are needed.

    Attributes:
        length (int): Number of frames T.
        read (Callable): Numbers of frames, increasing -> iterator of their
            pictures, uint8, BGR, (H, W, 3).
        frame_bytes (int): Bytes of a picture.
    """

    length: int
    read: Callable[[Sequence[int]], Iterator[np.ndarray]]
    frame_bytes: int

    def pictures(self, numbers: range) -> Iterator[tuple[int, np.ndarray]]:
        """Yield numbers and pictures, of increasing or decreasing numbers."""
        if numbers.step > 0:
            yield from zip(numbers, self.read(numbers), strict=True)
            return
        # files are decoded forward: read some frames, and turn them round
        some = max(1, QUEUE_BYTES // max(1, self.frame_bytes))
        for first in range(0, len(numbers), some):
            block = numbers[first : first + some][::-1]
            images = list(self.read(block))
            for number in reversed(block):
                yield number, images.pop()


class Span(NamedTuple):
    """The part of the video that gets the mask of a key frame.

    Attributes:
        obj (int): The object.
        key (int): Its key frame.
        start (int): First frame of the part.
        stop (int): End of the part.
    """

    obj: int
    key: int
    start: int
    stop: int


def cut_spans(obj: int, keys: Sequence[int], length: int) -> list[Span]:
    """Give each frame to the nearest key frame, the earlier of two."""
    middles = [(a + b) // 2 + 1 for a, b in pairwise(keys)]
    bounds = [0, *middles, length]
    return [Span(obj, key, *bounds[i : i + 2]) for i, key in enumerate(keys)]


def propagate(
    propagator: MaskPropagator,
    video: Video,
    own: Sequence[RLEMasks],
    scores: np.ndarray,
    device: torch.device,
    progress: Progress = no_progress,
) -> Iterator[ScoredRLEMasks]:
    """Propagate the masks of E objects and fuse them with their own.

    Args:
        propagator (MaskPropagator): How masks get to the next frame, and the
            rules.
        video (Video): T frames.
        own (Sequence[RLEMasks]): The model's E masks in each frame.
        scores (np.ndarray): Their scores in [0, 1], shape (T, E).
        device (torch.device): Where the model is.
        progress (Progress): Shows how far it is.

    Yields:
        ScoredRLEMasks: E masks of each frame.
    """
    filled = np.stack([masks.areas() > 0 for masks in own])  # [T, E]
    absent = np.zeros_like(filled)
    if propagator.absent_score is not None:
        absent = ~filled | (scores < propagator.absent_score)
    spans = defaultdict(list)
    for obj, possible in enumerate((filled & ~absent).T):
        if possible.any():
            keys = propagator.key_frames(scores[:, obj], possible)
            for span in cut_spans(obj, keys, video.length):
                spans[span.key].append(span)
    found: list[_Found] = [{} for _ in own]
    if spans:
        propagator.prepare(device)
        _track(propagator, video, own, scores, spans, found, progress)
    for frame in zip(own, scores, absent, found, strict=True):
        yield _fuse(propagator, *frame)


def _track(
    propagator: MaskPropagator,
    video: Video,
    own: Sequence[RLEMasks],
    scores: np.ndarray,
    spans: dict[int, list[Span]],
    found: list[_Found],
    progress: Progress,
) -> None:
    """Go forward and backward from the key frames; fill ``found``."""
    turned: dict[int, MaskTracker] = {}
    for backward in (False, True):
        # key frame -> the last frame on the way of its objects
        if backward:
            ends = {key: min(s.start for s in of) for key, of in spans.items()}
            ends = {key: end for key, end in ends.items() if end < key}
        else:
            ends = {key: max(s.stop for s in of) for key, of in spans.items()}
            ends = {key: stop - 1 for key, stop in ends.items()}
        if not ends:
            return
        numbers = range(min(ends), max(ends.values()) + 1)
        if backward:
            numbers = range(max(ends), min(ends.values()) - 1, -1)
        depth = queue_depth(len(numbers), video.frame_bytes)
        ahead = prefetch(video.pictures(numbers), depth)
        what = 'backward' if backward else 'forward'
        moving: dict[int, MaskTracker] = {}
        frame = None
        with closing(ahead):
            for t, image in progress(what, len(numbers), ahead):
                frame = propagator.encode(image, frame)
                for key, tracker in moving.items():
                    masks, sure = tracker.step(frame, t)
                    for span, rle, score in zip(
                        spans[key], encode_masks(masks), sure, strict=True
                    ):
                        if span.start <= t < span.stop:
                            score *= scores[key, span.obj]
                            found[t][span.obj] = rle, score
                if t in ends:
                    seeds = own[t].to_ndarray()[[s.obj for s in spans[t]]]
                    moving[t] = propagator.start(
                        frame, seeds, t, video.length, turned.pop(t, None)
                    )
                for key in [key for key in moving if ends[key] == t]:
                    turned[key] = moving.pop(key)


def _fuse(
    propagator: MaskPropagator,
    own: RLEMasks,
    scores: np.ndarray,
    absent: np.ndarray,
    found: _Found,
) -> ScoredRLEMasks:
    """Fuse the masks of E objects in a frame."""
    rles = list(own.rles)
    objects = [obj for obj in found if not absent[obj]]
    if objects:
        moved = RLEMasks([found[obj][0] for obj in objects], own.shape[1:])
        masks = propagator.fusion(
            ScoredMasks(own.to_ndarray()[objects], scores[objects]),
            ScoredMasks(
                moved.to_ndarray(), np.array([found[o][1] for o in objects])
            ),
        )
        for obj, rle in zip(objects, encode_masks(masks), strict=True):
            rles[obj] = rle
    if absent.any():
        [empty] = encode_masks(np.zeros((1, *own.shape[1:]), bool))
        rles = [empty if a else r for r, a in zip(rles, absent, strict=True)]
    return ScoredRLEMasks(rles, own.shape[1:], scores)
