# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""J and F of two masks, as DAVIS defines them.

The numbers equal those of the official DAVIS-2017 evaluation. The work does
not: each mask is cut to its bounding box, and its outline is drawn and dilated
once, whatever the number of masks it is compared with.
"""

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike

from referformer.errors import ConfigError, DataError

BOUND_TH = 0.008
"""Boundary tolerance as a fraction of the image diagonal."""

# A pixel together with its right, lower and lower right neighbours.
_BLOCK = np.ones((2, 2), np.uint8)


def tolerance_radius(
    shape: tuple[int, int], bound_th: float = BOUND_TH
) -> int:
    """Distance in pixels at which two boundary pixels still match.

    Args:
        shape (tuple[int, int]): Height and width of the frame.
        bound_th (float): Below 1 a fraction of the image diagonal, rounded
            up; from 1 on a whole number of pixels.

    Raises:
        ConfigError: If ``bound_th`` is neither.
    """
    if bound_th >= 1:
        if bound_th != int(bound_th):
            raise ConfigError(
                f'bound_th={bound_th} means pixels because it is at least 1; '
                'give a whole number of pixels or a fraction below 1.'
            )
        return int(bound_th)
    if bound_th <= 0:
        raise ConfigError(f'bound_th={bound_th} must be greater than 0.')
    return math.ceil(bound_th * float(np.linalg.norm(shape)))


@lru_cache(maxsize=32)
def _disk_steps(radius: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns that together dilate by a disk, see :func:`_dilate`.

    A disk is the union of rectangles, each narrower and taller than the next.
    Steps go from the narrowest to the widest: how much wider the rectangle is
    than the one before, how much taller than the one after.
    """
    # The last row of a width is the highest one.
    heights = {math.isqrt(radius**2 - y**2): y for y in range(radius + 1)}
    sizes = [(0, 0), *sorted(heights.items())]
    below = [*(height for _, height in sizes[2:]), 0]
    return [
        (
            np.ones((1, 2 * (width - narrower) + 1), np.uint8),
            np.ones((2 * (height - lower) + 1, 1), np.uint8),
        )
        for (narrower, _), (width, height), lower in zip(
            sizes, sizes[1:], below, strict=False
        )
    ]


def _dilate(edge: np.ndarray, radius: int) -> np.ndarray:
    """Dilate by a disk, in rows and columns: faster than by its pixels."""
    rows, disk = edge, np.zeros_like(edge)
    for wider, taller in _disk_steps(radius):
        rows = cv2.dilate(rows, wider)
        disk = cv2.dilate(cv2.bitwise_or(disk, rows), taller)
    return disk


def _as_binary(mask: ArrayLike, name: str) -> np.ndarray:
    """Return ``mask`` as uint8 zeros and ones, ``[H, W]``."""
    array = np.asarray(mask)
    if array.ndim != 2:
        raise DataError(
            f'{name} has shape {array.shape}; expected one mask (H, W).'
        )
    if array.dtype != bool:
        array = array != 0
    return np.ascontiguousarray(array).view(np.uint8)


def check_same_shape(
    shape: tuple[int, ...], expected: tuple[int, ...], name: str
) -> None:
    """Raise ``DataError`` unless two masks belong to frames of one size."""
    if tuple(shape) != tuple(expected):
        raise DataError(
            f'{name} has shape {tuple(shape)} but the mask it is compared '
            f'with has shape {tuple(expected)}; bring both to one size.'
        )


class MaskOutline:
    """One binary mask, reduced to what J and F need of it.

    Holds the mask inside a window just large enough for its dilated outline.
    The outline and its dilation are made on first use and kept, so a
    ground-truth mask compared with many predictions pays for them once, and
    an empty mask costs nothing.

    Args:
        mask (ArrayLike): Any dtype, non-zero = object, shape (H, W).
        void (ArrayLike, optional): Non-zero = pixel to ignore, shape (H, W).
        bound_th (float): Boundary tolerance, see :func:`tolerance_radius`.

    Attributes:
        shape (tuple[int, int]): Height and width of the frame.
        area (int): Pixels of the mask.

    Raises:
        DataError: If the shapes differ or are not (H, W).
    """

    def __init__(
        self,
        mask: ArrayLike,
        void: ArrayLike | None = None,
        bound_th: float = BOUND_TH,
    ) -> None:
        binary = _as_binary(mask, 'mask')
        self.shape: tuple[int, int] = (binary.shape[0], binary.shape[1])
        self._radius = tolerance_radius(self.shape, bound_th)
        if void is not None:
            ignored = _as_binary(void, 'void')
            check_same_shape(ignored.shape, self.shape, 'void')
            binary = binary & (1 - ignored)

        left, top, width, height = cv2.boundingRect(binary)
        # An outline pixel sits at most one pixel above or left of the mask,
        # and its dilation reaches the radius further. One empty row and
        # column must also follow the mask wherever the frame goes on, or the
        # window's border would pass for the frame's border.
        margin = self._radius + 1
        self._top = max(top - margin, 0)
        self._left = max(left - margin, 0)
        self._bottom = min(top + height + margin, self.shape[0])
        self._right = min(left + width + margin, self.shape[1])
        if not (width and height):
            self._bottom, self._right = self._top, self._left
        self._region = binary[
            self._top : self._bottom, self._left : self._right
        ].copy()
        self.area: int = cv2.countNonZero(self._region) if width else 0

    @cached_property
    def _edge(self) -> np.ndarray:
        """Outline inside the window, uint8 zeros and ones.

        Marked is a pixel whose right, lower or lower right neighbour differs.
        The last row looks only right and the last column only down: the
        frame's border is no boundary.
        """
        if not self.area:
            return self._region
        return cv2.morphologyEx(
            self._region, cv2.MORPH_GRADIENT, _BLOCK, anchor=(0, 0)
        )

    @cached_property
    def _near(self) -> np.ndarray:
        """Pixels of the window within the tolerance of the outline."""
        return _dilate(self._edge, self._radius) if self.length else self._edge

    @cached_property
    def length(self) -> int:
        """Number of outline pixels."""
        return cv2.countNonZero(self._edge) if self.area else 0

    def _shared(
        self, mine: np.ndarray, other: 'MaskOutline', theirs: np.ndarray
    ) -> int:
        """Count the pixels set in two maps that live in different windows."""
        top = max(self._top, other._top)
        left = max(self._left, other._left)
        bottom = min(self._bottom, other._bottom)
        right = min(self._right, other._right)
        if top >= bottom or left >= right:
            return 0

        def common(pixels: np.ndarray, owner: 'MaskOutline') -> np.ndarray:
            rows = slice(top - owner._top, bottom - owner._top)
            return pixels[rows, left - owner._left : right - owner._left]

        return cv2.countNonZero(common(mine, self) & common(theirs, other))

    def overlap(self, other: 'MaskOutline') -> int:
        """Number of pixels that both masks have."""
        return self._shared(self._region, other, other._region)

    def iou(self, other: 'MaskOutline') -> float:
        """Region similarity J with another mask, 1 if both are empty."""
        inter = self.overlap(other)
        union = self.area + other.area - inter
        return inter / union if union else 1.0

    def boundary_f(self, truth: 'MaskOutline') -> float:
        """Boundary accuracy F of this mask against the true one.

        Returns:
            float: Harmonic mean of boundary precision and recall; 1 if
            neither mask has an outline, 0 if only one has.
        """
        if not (self.length and truth.length):
            return float(self.length == truth.length)
        precision = self._shared(self._edge, truth, truth._near) / self.length
        recall = truth._shared(truth._edge, self, self._near) / truth.length
        if precision + recall == 0:
            return 0.0
        return 2 * precision * recall / (precision + recall)


def union_area(masks: Sequence[MaskOutline]) -> int:
    """Number of pixels that at least one of several masks has."""
    masks = [mask for mask in masks if mask.area]
    if len(masks) < 2:
        return sum(mask.area for mask in masks)
    top = min(mask._top for mask in masks)
    left = min(mask._left for mask in masks)
    bottom = max(mask._bottom for mask in masks)
    right = max(mask._right for mask in masks)
    union = np.zeros((bottom - top, right - left), np.uint8)
    for mask in masks:
        rows = slice(mask._top - top, mask._bottom - top)
        union[rows, mask._left - left : mask._right - left] |= mask._region
    return cv2.countNonZero(union)


def compare(
    pred: ArrayLike,
    gt: ArrayLike | MaskOutline,
    void: ArrayLike | None = None,
    bound_th: float = BOUND_TH,
) -> tuple[float, float]:
    """J and F of a predicted mask.

    Args:
        pred (ArrayLike): Predicted mask, non-zero = object, shape (H, W).
        gt (ArrayLike | MaskOutline): True mask, shape (H, W), or its outline.
        void (ArrayLike, optional): Pixels to ignore, shape (H, W).
        bound_th (float): Tolerance, see :func:`tolerance_radius`.

    Raises:
        DataError: If the shapes differ or are not (H, W).
    """
    mine = MaskOutline(pred, void, bound_th)
    if not isinstance(gt, MaskOutline):
        gt = MaskOutline(gt, void, bound_th)
    check_same_shape(mine.shape, gt.shape, 'pred')
    return mine.iou(gt), mine.boundary_f(gt)


def region_similarity(
    pred: ArrayLike, gt: ArrayLike, void: ArrayLike | None = None
) -> float:
    """Region similarity J, the IoU of two masks; see :func:`compare`."""
    return compare(pred, gt, void)[0]


def boundary_accuracy(
    pred: ArrayLike,
    gt: ArrayLike,
    void: ArrayLike | None = None,
    bound_th: float = BOUND_TH,
) -> float:
    """Boundary accuracy F: how well two outlines agree within a tolerance.

    A mask that fills the frame has no outline, just like an empty one, so
    the two agree perfectly (as in the official numbers). Arguments are those
    of :func:`compare`.
    """
    return compare(pred, gt, void, bound_th)[1]
