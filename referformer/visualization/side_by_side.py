# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""One clip, several masks: the truth and what methods make of it."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from referformer.visualization.drawing import colour_of, fill_mask
from referformer.visualization.lettering import draw_strip

_GAP = 4


def draw_side_by_side(
    frames: Sequence[np.ndarray],
    masks: Mapping[str, Sequence[np.ndarray]],
    caption: str,
    alpha: float = 0.5,
) -> np.ndarray:
    """Draw a clip as rows of frames: bare, then with each kind of mask.

    Args:
        frames (Sequence[np.ndarray]): T frames, RGB, uint8, (h, w, 3).
        masks (Mapping[str, Sequence[np.ndarray]]): Title of a row -> T
            masks, bool, of any size.
        caption (str): Stands on top.
        alpha (float): Opacity of masks in [0, 1].

    Returns:
        np.ndarray: RGB picture, uint8.
    """
    height, width = frames[0].shape[:2]
    total = len(frames) * width + (len(frames) - 1) * _GAP
    rows = [draw_strip((caption,), height, total), _join(frames)]
    for index, (title, drawn) in enumerate(masks.items()):
        colour = colour_of(index)
        tinted = []
        for frame, mask in zip(frames, drawn, strict=True):
            size = (width, height)
            mask = cv2.resize(
                np.asarray(mask, np.uint8),
                size,
                interpolation=cv2.INTER_NEAREST,
            )
            tinted.append(frame.copy())
            fill_mask(tinted[-1], mask > 0, colour, alpha)
        rows += [draw_strip((title,), height, total, (colour,)), _join(tinted)]
    return np.concatenate(rows)


def _join(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Put frames beside each other, with a gap between them."""
    gap = np.zeros((frames[0].shape[0], _GAP, 3), np.uint8)
    parts = [part for frame in frames for part in (gap, frame)]
    return np.concatenate(parts[1:], axis=1)
