# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Untrusted run-length encoded masks.

pycocotools does not validate its input: a run-length code that does not fit
its size makes it read outside of its memory. Codes are validated first.
"""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_utils

#: Larger sides are not frames and would exhaust the memory.
MAX_SIDE = 1 << 15
#: Numbers of a polygon of three points.
_SHORTEST_POLYGON = 6


def finite_number(value: Any) -> float | None:
    """A finite number, or None if ``value`` is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def looks_like_rle(mask: Any) -> bool:
    """Whether this has a size and the other key of a run-length code."""
    size = mask.get('size') if isinstance(mask, dict) else None
    return (
        isinstance(size, list)
        and len(size) == 2
        and all(type(side) is int and side > 0 for side in size)
        and 'counts' in mask
    )


def _decode_counts(text: str) -> np.ndarray | None:
    """Run lengths of a compressed code, int64; None if it is malformed.

    COCO's code has five bits a character, the sixth says that more follow,
    and from the fourth run on stores the difference to the run before last.
    """
    chars = np.frombuffer(text.encode('latin-1', 'replace'), np.uint8)
    values = chars.astype(np.int64) - 48
    if not len(values):
        return values
    if values.min() < 0 or values.max() > 63 or values[-1] & 32:
        return None
    last = np.flatnonzero(~values & 32)
    first = np.r_[0, last[:-1] + 1]
    length = last - first + 1
    if length.max() > 7:
        return None
    place = np.arange(len(values)) - np.repeat(first, length)
    runs = np.add.reduceat((values & 31) << (5 * place), first)
    runs -= ((values[last] >> 4) & 1) << (5 * length)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def to_rle(segmentation: Any, height: int, width: int) -> dict:
    """Encode a segmentation of COCO in any of its forms.

    Args:
        segmentation: Run lengths, compressed (``counts`` a text) or not (a
            list), or a list of polygons.
        height: Height of the frame.
        width: Width of the frame.

    Returns:
        Compressed run-length encoding. Polygons of less than three points
        enclose nothing and are left out, as in published loaders.

    Raises:
        ValueError: If it is none of these or does not fit the frame; the
            text says why, without a full stop.
    """
    if isinstance(segmentation, list):
        return _draw_polygons(segmentation, height, width)
    if not isinstance(segmentation, dict):
        raise ValueError('is neither run-length encoded nor polygons')
    size, counts = segmentation.get('size'), segmentation.get('counts')
    if not isinstance(size, Sequence) or list(size) != [height, width]:
        raise ValueError(
            f'has the size {size} (height, width) but the image '
            f'{[height, width]}; write masks at the size of the image'
        )
    if isinstance(counts, bytes):
        counts = counts.decode('latin-1')
    if isinstance(counts, str):
        runs = _decode_counts(counts)
    elif isinstance(counts, list) and all(type(n) is int for n in counts):
        if any(not 0 <= n <= height * width for n in counts):
            raise ValueError('has run lengths that are no pixel counts')
        runs = np.array(counts, np.int64)
    else:
        raise ValueError('has no "counts"')
    if runs is None or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError('is no run-length code of its size')
    if isinstance(counts, str):
        return {'size': [height, width], 'counts': counts.encode()}
    return mask_utils.frPyObjects(
        {'size': [height, width], 'counts': counts}, height, width
    )


def decode_union(rles: Sequence[dict], shape: tuple[int, int]) -> np.ndarray:
    """Draw the union of checked codes, see :func:`to_rle`.

    Args:
        rles: Compressed run-length codes of one size, possibly none.
        shape: Height and width.

    Returns:
        bool, shape (H, W).
    """
    if not rles:
        return np.zeros(shape, bool)
    rle = rles[0] if len(rles) == 1 else mask_utils.merge(list(rles))
    # Codes go down the columns; OpenCV turns them into rows many times
    # faster than NumPy.
    return cv2.transpose(mask_utils.decode(rle).T).view(bool)


def _draw_polygons(polygons: list, height: int, width: int) -> dict:
    """Encode the union of polygons."""
    if not polygons:
        raise ValueError('has no polygon')
    drawn = []
    for polygon in polygons:
        if not isinstance(polygon, list):
            raise ValueError('has a polygon that is no list of numbers')
        # Four numbers would be taken for a box.
        if len(polygon) < _SHORTEST_POLYGON:
            continue
        if len(polygon) % 2 or any(finite_number(v) is None for v in polygon):
            raise ValueError('has a polygon that is not x, y, x, y, ...')
        for values, side in ((polygon[::2], width), (polygon[1::2], height)):
            if min(values) < -side or max(values) > 2 * side:
                raise ValueError('has a polygon far outside the image')
        drawn.append(polygon)
    if not drawn:
        return mask_utils.encode(np.zeros((height, width), np.uint8, 'F'))
    return mask_utils.merge(mask_utils.frPyObjects(drawn, height, width))


def encode_mask(mask: np.ndarray) -> dict:
    """Encode a mask of shape (H, W) as COCO does."""
    return mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))
