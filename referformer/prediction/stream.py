# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Segmenting a video of any length in bounded memory.

.. code-block:: text

    decode, resize ──queue──► Predictor ──queue──► write
       thread              caller's thread         thread

Both queues are bounded, so the slowest of the three sets the pace and what is
alive at a time are a window of frames and what the queues hold, however long
the video is. An error in any of them ends all three and reaches the caller.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from referformer.media.sources import Frame
from referformer.models import ReferFormer
from referformer.prediction.background import (
    prefetch,
    queue_depth,
    return_freed_memory,
)
from referformer.prediction.predictor import (
    Predictor,
    SeenWindow,
    WindowPredictions,
)
from referformer.structures import SoftMasks


class PreparedFrame(NamedTuple):
    """A frame, and what the network gets of it: uint8, BGR, (h, w, 3)."""

    frame: Frame
    image: np.ndarray


@dataclass(eq=False)
class FrameResult:
    """What was found in a frame, for E expressions.

    Attributes:
        frame (Frame): The frame.
        window (int): Number of the window it was seen in.
        soft_masks (SoftMasks): E mask logits at stride 4.
        scores (np.ndarray): Scores in this frame, in [0, 1], shape (E,).
        window_scores (np.ndarray): Means over the window, shape (E,).
        boxes (np.ndarray): x1, y1, x2, y2 in pixels, inside the frame,
            shape (E, 4).
        points (np.ndarray): Reference points x, y of the chosen queries, in
            pixels, shape (E, 2).
    """

    frame: Frame
    window: int
    soft_masks: SoftMasks
    scores: np.ndarray
    window_scores: np.ndarray
    boxes: np.ndarray
    points: np.ndarray

    @cached_property
    def masks(self) -> np.ndarray:
        """Masks at the size of the frame, bool, shape (E, H, W)."""
        return self.soft_masks.to_ndarray()


def see_frames(
    model: ReferFormer,
    frames: Iterable[Frame],
    prepare: Callable[[np.ndarray], np.ndarray],
    predictor: Predictor,
    keep_images: bool = True,
    frame_bytes: int = 0,
) -> Iterator[SeenWindow[PreparedFrame]]:
    """Read frames, window by window; they are prepared in a thread.

    Args:
        model (ReferFormer): The model, in evaluation mode.
        frames (Iterable[Frame]): The video.
        prepare (Callable): Frame -> what the network gets, both uint8, BGR.
        predictor (Predictor): Settled, see :meth:`Predictor.settled`.
        keep_images (bool): Whether frames keep their pictures.
        frame_bytes (int): Size of a picture, to bound the queue.
    """

    def prepared() -> Iterator[PreparedFrame]:
        for frame in frames:
            ready = PreparedFrame(frame, prepare(frame.image))
            if not keep_images:
                frame.image = None
            del frame
            yield ready
            del ready

    def to_clip(window: Sequence[PreparedFrame]) -> Tensor:
        images = np.stack([image for _, image in window])
        clip = torch.from_numpy(images).permute(0, 3, 1, 2)
        batch = {'inputs': [clip], 'data_samples': None}
        return model.data_preprocessor(batch)['inputs'][0]

    ahead = prefetch(prepared(), queue_depth(predictor.window, frame_bytes))
    try:
        yield from predictor.see(model, ahead, to_clip)
    finally:
        ahead.close()


def ask_frames(
    model: ReferFormer,
    seen: Iterable[SeenWindow[PreparedFrame]],
    texts: Sequence[str],
    predictor: Predictor,
) -> Iterator[FrameResult]:
    """Look for expressions in frames that were read.

    Args:
        model (ReferFormer): The model, in evaluation mode.
        seen (Iterable[SeenWindow]): What :func:`see_frames` yields, or a list
            of it that was kept to ask for other expressions.
        texts (Sequence[str]): E expressions, as the model was taught them.
        predictor (Predictor): Settled, see :meth:`Predictor.settled`.

    Yields:
        FrameResult: One per frame, in order.
    """
    text = predictor.read(model, texts)
    for predicted in predictor.ask(model, seen, text):
        window = predicted.window
        for t in range(window.start, window.stop):
            yield _frame_result(model, predictor, predicted, t)
        del window, predicted
        return_freed_memory()


def _frame_result(
    model: ReferFormer,
    predictor: Predictor,
    predicted: WindowPredictions[PreparedFrame],
    t: int,
) -> FrameResult:
    """Result of frame t of a window."""
    window, found = predicted
    frame, image = window.frames[t]
    size = np.array(frame.shape[::-1], np.float32)
    boxes = found.boxes[:, t, 0].clamp(0, 1).numpy()
    # a copy: a view would keep the whole window in memory
    logits = found.masks[:, t, 0].clone()
    return FrameResult(
        frame,
        window.number,
        predictor.soft_masks(model, logits, image.shape[:2], frame.shape),
        found.frame_scores[:, t, 0].numpy().copy(),
        found.scores[:, 0].numpy().copy(),
        boxes * np.tile(size, 2),
        found.points[:, t, 0].numpy() * size,
    )


def segment_frames(
    model: ReferFormer,
    frames: Iterable[Frame],
    texts: Sequence[str],
    prepare: Callable[[np.ndarray], np.ndarray],
    predictor: Predictor | None = None,
    keep_images: bool = True,
    frame_bytes: int = 0,
) -> Iterator[FrameResult]:
    """Segment what expressions mean, frame after frame.

    Arguments are those of :func:`see_frames` and :func:`ask_frames`; the
    predictor need not be settled.

    Yields:
        FrameResult: One per frame, in order.
    """
    predictor = (predictor or Predictor()).settled(model)
    seen = see_frames(
        model, frames, prepare, predictor, keep_images, frame_bytes
    )
    try:
        yield from ask_frames(model, seen, texts, predictor)
    finally:
        seen.close()
