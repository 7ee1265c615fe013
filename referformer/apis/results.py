# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Results of a video as Python objects.

A sink takes results frame by frame; :class:`Collector` is one that keeps
their numbers.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from referformer.formats.coco import encode_masks
from referformer.media.sources import Frame, FrameSource
from referformer.prediction import FrameResult
from referformer.structures import RLEMasks

MaskFormat = Literal['rle', 'array', 'png', 'none']
"""Format of masks: encoded by COCO, a boolean array, files, or none."""

Sink = Callable[[FrameResult], None]
"""Takes the results of a video, frame by frame."""


@dataclass
class ExpressionResult:
    """Results of an expression in a video of n frames.

    Attributes:
        text (str): The expression, as given.
        scores (np.ndarray): Score of each frame, in [0, 1], shape (n,).
        window_scores (np.ndarray): Score of each window, shape (W,).
        boxes (np.ndarray): x1, y1, x2, y2 in pixels, shape (n, 4).
        areas (np.ndarray): Pixels of the mask in each frame, shape (n,).
        masks (list[dict] | np.ndarray | None): n masks encoded by COCO
            (``counts`` are str), or bool, shape (n, H, W); None if they
            were not asked for or are files.
    """

    text: str
    scores: np.ndarray
    window_scores: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    masks: list[dict] | np.ndarray | None


@dataclass
class VideoResult:
    """Results of a video.

    Attributes:
        name (str): Its name.
        size (tuple[int, int]): Width and height.
        fps (float): Frames per second of these frames, the mean if the rate
            varies.
        frame_names (list[str]): Names of the n frames.
        frame_indices (np.ndarray): Their numbers in the video, shape (n,).
        times (np.ndarray): Seconds from its beginning, shape (n,).
        windows (np.ndarray): Window of each frame, shape (n,).
        expressions (list[ExpressionResult]): In the order they were given.
        missing (int): Frames lost because the file is cut off.
        files (dict[str, str]): Files written: ``overlay``, ``json``,
            ``masks``.
    """

    name: str
    size: tuple[int, int]
    fps: float
    frame_names: list[str]
    frame_indices: np.ndarray
    times: np.ndarray
    windows: np.ndarray
    expressions: list[ExpressionResult]
    missing: int = 0
    files: dict[str, str] = field(default_factory=dict)


def join_expressions(
    tracks: Sequence[Sequence[FrameResult]], frames: Iterable[Frame]
) -> Iterator[FrameResult]:
    """Put results of one video together that were predicted one by one.

    Args:
        tracks (Sequence): For each of some groups of expressions the result
            of every frame, with encoded masks.
        frames (Iterable[Frame]): The frames with their pictures.

    Yields:
        FrameResult: Of all expressions, one per frame.
    """
    names = ('scores', 'window_scores', 'boxes', 'points')
    for frame, *parts in zip(frames, *tracks, strict=True):
        rles = [rle for part in parts for rle in part.soft_masks.rles]
        numbers = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in names
        }
        masks = RLEMasks(rles, frame.shape)
        yield FrameResult(frame, parts[0].window, masks, **numbers)
        del frame


class Collector:
    """Keep the numbers of all frames, and masks in the format asked for."""

    def __init__(self, texts: Sequence[str], masks: MaskFormat) -> None:
        self.texts = list(texts)
        self.format = masks
        self._frames: list[Frame] = []
        self._windows: list[int] = []
        self._masks: list = []
        # of shape (E, ...)
        self._numbers: list[tuple[np.ndarray, ...]] = []

    def write(self, result: FrameResult) -> None:
        """Take the result of the next frame."""
        masks: list[dict] | np.ndarray | None = None
        if self.format == 'array':
            masks = result.masks
        elif self.format == 'rle':
            masks = encode_masks(result.masks)
        self._frames.append(replace(result.frame, image=None))
        self._windows.append(result.window)
        self._masks.append(masks)
        areas = result.masks.sum((1, 2))
        self._numbers.append(
            (result.scores, result.window_scores, result.boxes, areas)
        )

    def result(
        self, source: FrameSource, files: dict[str, str] | None = None
    ) -> VideoResult:
        """Put everything together, with the files written of ``source``."""
        # [E, n, ...]
        scores, window_scores, boxes, areas = (
            np.stack(each, 1) for each in zip(*self._numbers, strict=True)
        )
        windows = np.array(self._windows)
        first = np.unique(windows, return_index=True)[1]
        expressions = []
        for e, text in enumerate(self.texts):
            masks = None
            if self._masks[0] is not None:
                masks = [each[e] for each in self._masks]
            if self.format == 'array':
                masks = np.stack(masks)
            numbers = scores[e], window_scores[e, first], boxes[e], areas[e]
            expressions.append(ExpressionResult(text, *numbers, masks))
        return VideoResult(
            source.name,
            self._frames[0].shape[::-1],
            source.fps,
            [frame.name for frame in self._frames],
            np.array([frame.index for frame in self._frames]),
            np.array([frame.time for frame in self._frames]),
            windows,
            expressions,
            source.missing,
            files or {},
        )
