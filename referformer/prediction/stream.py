# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Segmenting a video of any length in bounded memory.

.. code-block:: text

    decode, resize ──queue──► Predictor ──queue──► write
       thread              caller's thread         thread

Both queues are bounded, so the slowest of the three sets the pace, and memory
holds one window of frames and the contents of the queues, however long the
video is. An error in any of them ends all three and is raised in the caller.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from referformer.errors import ConfigError
from referformer.formats.coco import encode_masks
from referformer.media.sources import Frame, FrameSource
from referformer.models import ReferFormer
from referformer.prediction.background import (
    prefetch,
    queue_depth,
)
from referformer.prediction.predictor import (
    EncodedWindow,
    Predictor,
    WindowPredictions,
    device_of,
)
from referformer.prediction.propagation import (
    MaskPropagator,
    Progress,
    Video,
    no_progress,
    propagate,
)
from referformer.structures import RLEMasks, SoftMasks
from referformer.utils.freed_memory import return_freed_memory


class PreparedFrame(NamedTuple):
    """A frame, and what the network gets of it: uint8, BGR, (h, w, 3)."""

    frame: Frame
    image: np.ndarray


@dataclass(eq=False)
class FrameResult:
    """Predictions for E expressions in a frame.

    Attributes:
        frame (Frame): The frame.
        window (int): Number of the window its result is taken from.
        soft_masks (SoftMasks | RLEMasks): E mask logits at stride 4; encoded
            masks where they were propagated.
        scores (np.ndarray): Scores in this frame, in [0, 1], shape (E,).
        window_scores (np.ndarray): Means over the window, shape (E,).
        boxes (np.ndarray): x1, y1, x2, y2 in pixels, inside the frame,
            shape (E, 4).
        points (np.ndarray): Reference points x, y of the chosen queries, in
            pixels, shape (E, 2).
    """

    frame: Frame
    window: int
    soft_masks: SoftMasks | RLEMasks
    scores: np.ndarray
    window_scores: np.ndarray
    boxes: np.ndarray
    points: np.ndarray

    @cached_property
    def masks(self) -> np.ndarray:
        """Masks at the size of the frame, bool, shape (E, H, W)."""
        return self.soft_masks.to_ndarray()

    def encoded(self) -> 'FrameResult':
        """The same without the picture, its masks run-length encoded."""
        shape = self.frame.shape
        return replace(
            self,
            frame=replace(self.frame, image=None),
            soft_masks=RLEMasks(encode_masks(self.masks), shape),
        )


def encode_video(
    model: ReferFormer,
    frames: Iterable[Frame],
    prepare: Callable[[np.ndarray], np.ndarray],
    predictor: Predictor | None = None,
    keep_images: bool = True,
    frame_bytes: int = 0,
    first: int = 0,
) -> Iterator[EncodedWindow[PreparedFrame]]:
    """Encode frames, window by window; they are prepared in a thread.

    Args:
        model (ReferFormer): The model, in evaluation mode.
        frames (Iterable[Frame]): The video.
        prepare (Callable): Frame -> what the network gets, both uint8, BGR.
        predictor (Predictor, optional): Windows. None is the model's own.
        keep_images (bool): Whether frames keep their pictures.
        frame_bytes (int): Size of a picture, to bound the queue.
        first (int): Number of the first window, with whose first frame
            ``frames`` begin.
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

    predictor = (predictor or model.predictor).resolved(device_of(model))
    ahead = prefetch(prepared(), queue_depth(predictor.window, frame_bytes))
    try:
        yield from predictor.encode_windows(model, ahead, to_clip, first)
    finally:
        ahead.close()


def predict_video(
    model: ReferFormer,
    encoded: Iterable[EncodedWindow[PreparedFrame]],
    texts: Sequence[str],
    predictor: Predictor | None = None,
) -> Iterator[FrameResult]:
    """Predict expressions in frames that were encoded.

    Args:
        model (ReferFormer): The model, in evaluation mode.
        encoded (Iterable[EncodedWindow]): From :func:`encode_video`, or a list
            of it that was kept to predict other expressions.
        texts (Sequence[str]): E expressions, normalised as in training.
        predictor (Predictor, optional): The same as for the encoding. None is
            the model's own.

    Yields:
        FrameResult: One per frame, in order.
    """
    predictor = predictor or model.predictor
    text = predictor.encode_text(model, texts)
    for predicted in predictor.predict_windows(model, encoded, text):
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


def propagate_results(
    propagator: MaskPropagator,
    source: FrameSource,
    results: Iterable[FrameResult],
    device: torch.device,
    keep_images: bool = True,
    progress: Progress = no_progress,
) -> Iterator[FrameResult]:
    """Propagate the masks of the best frames of a video.

    The results of all frames are kept, their masks run-length encoded. The
    frames are read again: forward, backward and, for their pictures, once
    more.

    Args:
        propagator (MaskPropagator): Carries masks from frame to frame.
        source (FrameSource): The video.
        results (Iterable[FrameResult]): Of all its frames.
        device (torch.device): Where the model is.
        keep_images (bool): Whether frames get their pictures again.
        progress (Progress): Shows how far it is.

    Yields:
        FrameResult: One per frame, with propagated masks and the boxes around
        them. The scores are the model's own.
    """
    kept: list[FrameResult] = []
    for result in progress('predict', len(source), results):
        kept.append(result.encoded())
        del result

    def read(numbers: Sequence[int]) -> Iterator[np.ndarray]:
        return source.read(source.indices[list(numbers)].tolist())

    fused = propagate(
        propagator,
        Video(len(source), read, source.frame_bytes),
        [result.soft_masks for result in kept],
        np.stack([result.scores for result in kept]),
        device,
        progress,
    )
    for result, masks in zip(kept, fused, strict=True):
        boxes = masks.new_boxes(result.soft_masks, result.boxes)
        result.soft_masks, result.boxes = masks, boxes
    if not keep_images:
        yield from kept
        return
    depth = queue_depth(len(source), source.frame_bytes)
    with closing(prefetch(source, depth)) as frames:
        for result, frame in zip(kept, frames, strict=True):
            yield replace(result, frame=frame)
            del result, frame


def segment_frames(
    model: ReferFormer,
    frames: Iterable[Frame],
    texts: Sequence[str],
    prepare: Callable[[np.ndarray], np.ndarray],
    predictor: Predictor | None = None,
    keep_images: bool = True,
    frame_bytes: int = 0,
    progress: Progress = no_progress,
) -> Iterator[FrameResult]:
    """Segment the objects of expressions, frame by frame.

    Arguments are those of :func:`encode_video`, :func:`predict_video` and
    :func:`propagate_results`.

    Yields:
        FrameResult: One per frame, in order. With a propagator, the first one
        comes when all frames are done.

    Raises:
        ConfigError: If there is a propagator, and the frames cannot be read
            again.
    """
    predictor = predictor or model.predictor
    propagator = predictor.propagator
    if propagator is not None and not isinstance(frames, FrameSource):
        raise ConfigError(
            'A propagator reads the frames of a video more than once; give a '
            'video that open_source() opens, not an iterator of frames.'
        )
    encoded = encode_video(
        model,
        frames,
        prepare,
        predictor,
        keep_images and propagator is None,
        frame_bytes,
    )
    results = predict_video(model, encoded, texts, predictor)
    if propagator is not None:
        device = next(model.parameters()).device
        propagator.prepare(device)  # errors come before the work
        more = keep_images, progress
        results = propagate_results(propagator, frames, results, device, *more)
    try:
        yield from results
    finally:
        encoded.close()
