# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Region similarity J and boundary accuracy F, as DAVIS defines them.

Three layers, each usable alone:

1. two masks -> J and F (:func:`region_similarity`,
   :func:`boundary_accuracy`, or :class:`MaskOutline` to reuse one mask);
2. a sequence -> mean, recall and decay (:func:`sequence_statistics`);
3. label maps of a video -> objects, by a :class:`Protocol` which says how
   predicted and true objects are paired (:data:`PROTOCOLS`).

The numbers equal those of the official DAVIS-2017 evaluation. The work does
not: each mask is cut to its bounding box and its outline is drawn and dilated
once, whatever the number of masks it is compared with.

Symbols: ``T`` frames, ``G`` ground-truth objects, ``P`` predicted objects,
``H, W`` the size of a frame in pixels.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import zip_longest
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

VOID_LABEL = 255
"""Pixel value that marks pixels which count for nobody."""
BOUND_TH = 0.008
"""Boundary tolerance as a fraction of the image diagonal."""
MAX_PROPOSALS = 20
"""Proposals a video that the DAVIS-2017 unsupervised task allows."""


def tolerance_radius(
    shape: tuple[int, int], bound_th: float = BOUND_TH
) -> int:
    """Distance in pixels at which two boundary pixels still match.

    Args:
        shape (tuple[int, int]): Height and width of the frame.
        bound_th (float): Below 1 a fraction of the image diagonal, rounded
            up; from 1 on a whole number of pixels.

    Returns:
        int: The radius in pixels.

    Raises:
        ValueError: If ``bound_th`` is not positive, or is a number of pixels
            that is not whole.
    """
    if bound_th >= 1:
        if bound_th != int(bound_th):
            raise ValueError(
                f'bound_th={bound_th} means pixels because it is at least 1; '
                'give a whole number of pixels or a fraction below 1.'
            )
        return int(bound_th)
    if bound_th <= 0:
        raise ValueError(f'bound_th={bound_th} must be greater than 0.')
    return math.ceil(bound_th * float(np.linalg.norm(shape)))


@lru_cache(maxsize=32)
def _disk(radius: int) -> np.ndarray:
    """Structuring element of all offsets within ``radius``."""
    offsets = np.arange(-radius, radius + 1)
    inside = offsets[:, None] ** 2 + offsets**2 <= radius**2
    return inside.astype(np.uint8)


def _as_binary(mask: ArrayLike, name: str) -> np.ndarray:
    """Return ``mask`` as uint8 zeros and ones, ``[H, W]``."""
    array = np.asarray(mask)
    if array.ndim != 2:
        raise ValueError(
            f'{name} has shape {array.shape}; expected one mask (H, W).'
        )
    if array.dtype != bool:
        array = array != 0
    return np.ascontiguousarray(array).view(np.uint8)


def _outline(region: np.ndarray) -> np.ndarray:
    """Mark the pixels whose right, lower or lower-right neighbour differs.

    The last row looks only right and the last column only down, so that the
    frame's border is no boundary: a mask that fills the frame has none.

    Args:
        region (np.ndarray): uint8 zeros and ones, shape (h, w).

    Returns:
        np.ndarray: uint8 zeros and ones, shape (h, w).
    """
    edge = np.zeros_like(region)
    here = region[:-1, :-1]
    edge[:-1, :-1] = (
        (here ^ region[:-1, 1:])
        | (here ^ region[1:, :-1])
        | (here ^ region[1:, 1:])
    )
    edge[-1, :-1] = region[-1, :-1] ^ region[-1, 1:]
    edge[:-1, -1] = region[:-1, -1] ^ region[1:, -1]
    return edge


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

    Raises:
        ValueError: If ``mask`` is not (H, W) or ``void`` has another shape.
    """

    def __init__(
        self,
        mask: ArrayLike,
        void: ArrayLike | None = None,
        bound_th: float = BOUND_TH,
    ) -> None:
        binary = _as_binary(mask, 'mask')
        self.shape: tuple[int, int] = (binary.shape[0], binary.shape[1])
        self.radius = tolerance_radius(self.shape, bound_th)
        if void is not None:
            ignored = _as_binary(void, 'void')
            _check_same_shape(ignored.shape, self.shape, 'void')
            binary = binary & (1 - ignored)

        left, top, width, height = cv2.boundingRect(binary)
        # An outline pixel sits at most one pixel above or left of the mask,
        # and its dilation reaches ``radius`` further. One empty row and
        # column must also follow the mask wherever the frame goes on, or the
        # window's border would pass for the frame's border.
        margin = self.radius + 1
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
        """Outline inside the window, uint8 zeros and ones."""
        return _outline(self._region) if self.area else self._region

    @cached_property
    def _near(self) -> np.ndarray:
        """Pixels of the window within ``radius`` of the outline."""
        if not self.length:
            return self._edge
        return cv2.dilate(self._edge, _disk(self.radius))

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
        common = (
            mine[
                top - self._top : bottom - self._top,
                left - self._left : right - self._left,
            ]
            & theirs[
                top - other._top : bottom - other._top,
                left - other._left : right - other._left,
            ]
        )
        return cv2.countNonZero(common)

    def iou(self, other: 'MaskOutline') -> float:
        """Region similarity J with another mask of the same frame.

        Returns:
            float: Intersection over union, 1 if both masks are empty.
        """
        inter = self._shared(self._region, other, other._region)
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


def _check_same_shape(
    shape: tuple[int, ...], expected: tuple[int, ...], name: str
) -> None:
    """Raise unless two masks belong to frames of one size."""
    if tuple(shape) != tuple(expected):
        raise ValueError(
            f'{name} has shape {tuple(shape)} but the mask it is compared '
            f'with has shape {tuple(expected)}; bring both to one size.'
        )


def _outlines(
    pred: ArrayLike,
    gt: ArrayLike | MaskOutline,
    void: ArrayLike | None,
    bound_th: float,
) -> tuple[MaskOutline, MaskOutline]:
    """Reduce a predicted and a true mask and check their sizes."""
    mine = MaskOutline(pred, void, bound_th)
    truth = (
        gt if isinstance(gt, MaskOutline) else MaskOutline(gt, void, bound_th)
    )
    _check_same_shape(mine.shape, truth.shape, 'pred')
    return mine, truth


def region_similarity(
    pred: ArrayLike, gt: ArrayLike, void: ArrayLike | None = None
) -> float:
    """Region similarity J: intersection over union of two masks.

    Args:
        pred (ArrayLike): Predicted mask, non-zero = object, shape (H, W).
        gt (ArrayLike): True mask, non-zero = object, shape (H, W).
        void (ArrayLike, optional): Pixels to ignore, shape (H, W).

    Returns:
        float: J in [0, 1]; 1 if both masks are empty.

    Raises:
        ValueError: If the shapes differ or are not (H, W).
    """
    mine, truth = _outlines(pred, gt, void, BOUND_TH)
    return mine.iou(truth)


def boundary_accuracy(
    pred: ArrayLike,
    gt: ArrayLike,
    void: ArrayLike | None = None,
    bound_th: float = BOUND_TH,
) -> float:
    """Boundary accuracy F: how well two outlines agree within a tolerance.

    A mask that fills the frame has no outline, just like an empty one, so
    the two are in perfect agreement here (as in the official numbers).

    Args:
        pred (ArrayLike): Predicted mask, non-zero = object, shape (H, W).
        gt (ArrayLike): True mask, non-zero = object, shape (H, W).
        void (ArrayLike, optional): Pixels to ignore, shape (H, W).
        bound_th (float): Tolerance, see :func:`tolerance_radius`.

    Returns:
        float: F in [0, 1].

    Raises:
        ValueError: If the shapes differ or are not (H, W).
    """
    mine, truth = _outlines(pred, gt, void, bound_th)
    return mine.boundary_f(truth)


class SequenceScores(NamedTuple):
    """J and F of every frame.

    Attributes:
        j (np.ndarray): Region similarity, float64, shape (T,).
        f (np.ndarray): Boundary accuracy, float64, shape (T,).
    """

    j: np.ndarray
    f: np.ndarray


def sequence_scores(
    preds: Iterable[ArrayLike],
    gts: Iterable[ArrayLike | MaskOutline],
    voids: Iterable[ArrayLike | None] | None = None,
    bound_th: float = BOUND_TH,
) -> SequenceScores:
    """J and F of one object in every frame of a video.

    The arguments may be arrays (T, H, W), lists or generators: one frame is
    looked at after the other and nothing is kept.

    Args:
        preds (Iterable[ArrayLike]): T predicted masks, each (H, W).
        gts (Iterable[ArrayLike | MaskOutline]): T true masks, each (H, W);
            outlines made once may be handed in for several predictions (they
            carry their own void and tolerance).
        voids (Iterable[ArrayLike | None], optional): T maps of pixels to
            ignore.
        bound_th (float): Tolerance, see :func:`tolerance_radius`.

    Returns:
        SequenceScores: J and F, each of shape (T,).

    Raises:
        ValueError: If the numbers of frames or the shapes differ.
    """
    frames = (
        ((pred, gt, None) for pred, gt in zip(preds, gts, strict=True))
        if voids is None
        else zip(preds, gts, voids, strict=True)
    )
    j, f = [], []
    for pred, gt, void in frames:
        mine, truth = _outlines(pred, gt, void, bound_th)
        j.append(mine.iou(truth))
        f.append(mine.boundary_f(truth))
    return SequenceScores(np.array(j, np.float64), np.array(f, np.float64))


class SequenceStatistics(NamedTuple):
    """What DAVIS reports of one measure over one sequence.

    Attributes:
        mean (float): Mean over the frames.
        recall (float): Share of frames above 0.5.
        decay (float): Mean of the first quarter minus mean of the last.
    """

    mean: float
    recall: float
    decay: float


def sequence_statistics(values: ArrayLike) -> SequenceStatistics:
    """Mean, recall and decay of one measure over the frames of a sequence.

    Equal to the official numbers with one exception: the official code keeps
    the borders of the quarters in eight bits, which makes its decay wrong
    for sequences of more than 256 frames; here it is right. The quarters
    share their border frame, as they do officially.

    A NaN marks a frame that was not scored: mean and decay leave it out, and
    recall counts it as not above 0.5.

    Args:
        values (ArrayLike): One number a frame, shape (T,).

    Returns:
        SequenceStatistics: NaN where no frame was scored.

    Raises:
        ValueError: If ``values`` is empty or not one-dimensional.
    """
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or not series.size:
        raise ValueError(
            f'Per-frame values have shape {series.shape}; expected (T,) with '
            'at least one frame.'
        )
    # The small constant sends exact halves up, where plain rounding would
    # send them to the even neighbour.
    borders = np.round(np.linspace(1, series.size, 5) + 1e-10).astype(int) - 1
    first = series[borders[0] : borders[1] + 1]
    last = series[borders[3] : borders[4] + 1]
    return SequenceStatistics(
        _nanmean(series),
        float(np.mean(series > 0.5)),
        _nanmean(first) - _nanmean(last),
    )


def _nanmean(values: np.ndarray) -> float:
    """Mean without the NaNs; NaN (and no warning) if nothing is left."""
    # Zeros in place of NaN, summed over the whole array, keep numpy's order
    # of summation and with it the last bit of the official mean.
    scored = ~np.isnan(values)
    if not scored.any():
        return math.nan
    return float(np.where(scored, values, 0).sum() / scored.sum())


class FrameScores(NamedTuple):
    """Scores of the label maps of one frame, before objects are paired.

    Attributes:
        j (np.ndarray): For ``identity`` shape (n,), entry k - 1 is object k.
            For ``unsupervised`` shape (p + 1, g + 1), entry [a, b] is
            prediction a against object b, and index 0 is the empty mask.
        f (np.ndarray): Boundary accuracy, same shape.
        num_pred (int): Highest id in the prediction.
        gt_areas (np.ndarray): Pixels of the objects 1..g in the ground
            truth, where g is the highest id, int64, shape (g,).
    """

    j: np.ndarray
    f: np.ndarray
    num_pred: int
    gt_areas: np.ndarray


def _split_labels(labels: np.ndarray, bound_th: float) -> list[MaskOutline]:
    """Outlines of the ids 1..max of a label map without void."""
    return [
        MaskOutline(labels == index, bound_th=bound_th)
        for index in range(1, int(labels.max(initial=0)) + 1)
    ]


class TrueLabels:
    """The true label map of one frame, ready to be compared.

    Made once, it serves any number of predictions of the frame.

    Args:
        labels (ArrayLike): True ids, 0 = background, 255 = void, (H, W).
        bound_th (float): Tolerance, see :func:`tolerance_radius`.

    Attributes:
        shape (tuple[int, int]): Height and width.
        void (np.ndarray | None): Pixels that count for nobody, bool, (H, W);
            None if there are none.
        outlines (list[MaskOutline]): Objects 1..g, g the highest id.
    """

    def __init__(self, labels: ArrayLike, bound_th: float = BOUND_TH) -> None:
        labels = np.asarray(labels)
        self.shape: tuple[int, int] = (labels.shape[0], labels.shape[1])
        self.bound_th = bound_th
        void = labels == VOID_LABEL
        self.void = void if void.any() else None
        self.outlines = _split_labels(
            labels if self.void is None else np.where(void, 0, labels),
            bound_th,
        )
        self.areas = np.array(
            [outline.area for outline in self.outlines], np.int64
        )

    def split(self, pred: ArrayLike) -> list[MaskOutline]:
        """Outlines of the ids 1..max of a prediction, void left out.

        Args:
            pred (ArrayLike): Predicted ids, 0 and 255 = no object, (H, W).
                255 may stem from a copied annotation.

        Returns:
            list[MaskOutline]: Outlines in the order of the ids.

        Raises:
            ValueError: If its size is not that of the ground truth.
        """
        pred = np.asarray(pred)
        _check_same_shape(pred.shape, self.shape, 'pred')
        nobody = pred == VOID_LABEL
        if self.void is not None:
            nobody |= self.void
        return _split_labels(np.where(nobody, 0, pred), self.bound_th)

    @property
    def nothing(self) -> MaskOutline:
        """The empty mask of this frame."""
        return MaskOutline(np.zeros(self.shape, bool), bound_th=self.bound_th)


def score_frame_identity(
    pred: ArrayLike, gt: ArrayLike | TrueLabels, bound_th: float = BOUND_TH
) -> FrameScores:
    """Score every id of a frame against the same id of the ground truth.

    Args:
        pred (ArrayLike): Predicted ids, 0 and 255 = no object, (H, W).
        gt (ArrayLike | TrueLabels): True ids, 0 = background, 255 = void,
            (H, W); or the same made ready, with its own tolerance.
        bound_th (float): Tolerance, see :func:`tolerance_radius`.

    Returns:
        FrameScores: ``j`` and ``f`` of shape (max(p, g),).

    Raises:
        ValueError: If the sizes of the two maps differ.
    """
    gt = gt if isinstance(gt, TrueLabels) else TrueLabels(gt, bound_th)
    mine, truth = gt.split(pred), gt.outlines
    pairs = list(zip_longest(mine, truth, fillvalue=gt.nothing))
    return FrameScores(
        np.array([a.iou(b) for a, b in pairs], np.float64),
        np.array([a.boundary_f(b) for a, b in pairs], np.float64),
        len(mine),
        gt.areas,
    )


def score_frame_pairs(
    pred: ArrayLike, gt: ArrayLike | TrueLabels, bound_th: float = BOUND_TH
) -> FrameScores:
    """Score every id of a frame against every id of the ground truth.

    Args:
        pred (ArrayLike): Predicted ids, 0 and 255 = no object, (H, W).
        gt (ArrayLike | TrueLabels): True ids, 0 = background, 255 = void,
            (H, W); or the same made ready, with its own tolerance.
        bound_th (float): Tolerance, see :func:`tolerance_radius`.

    Returns:
        FrameScores: ``j`` and ``f`` of shape (p + 1, g + 1).

    Raises:
        ValueError: If the sizes of the two maps differ.
    """
    gt = gt if isinstance(gt, TrueLabels) else TrueLabels(gt, bound_th)
    nothing = gt.nothing
    mine = [nothing, *gt.split(pred)]
    truth = [nothing, *gt.outlines]
    return FrameScores(
        np.array([[a.iou(b) for b in truth] for a in mine], np.float64),
        np.array([[a.boundary_f(b) for b in truth] for a in mine], np.float64),
        len(mine) - 1,
        gt.areas,
    )


class VideoScores(NamedTuple):
    """Scores of the objects of one video, after they were paired.

    Attributes:
        j (np.ndarray): Region similarity, float64, shape (G, T).
        f (np.ndarray): Boundary accuracy, float64, shape (G, T).
        gt_ids (list[int]): True id of each row.
        pred_ids (list[int]): Predicted id of each row.
        never_seen (list[int]): Ids below the highest one which no frame of
            the ground truth shows.
    """

    j: np.ndarray
    f: np.ndarray
    gt_ids: list[int]
    pred_ids: list[int]
    never_seen: list[int]


def _count_objects(frames: Sequence[FrameScores]) -> tuple[int, list[int]]:
    """Highest true id of a video, and the ids below it that never appear."""
    if not frames:
        raise ValueError('A video without frames cannot be scored.')
    num_gt = max(len(frame.gt_areas) for frame in frames)
    area = np.zeros(num_gt, np.int64)
    for frame in frames:
        area[: len(frame.gt_areas)] += frame.gt_areas
    return num_gt, (np.flatnonzero(area == 0) + 1).tolist()


def combine_identity(frames: Sequence[FrameScores]) -> VideoScores:
    """Prediction k is object k, in every frame.

    An object that the prediction lacks is an empty mask.

    Args:
        frames (Sequence[FrameScores]): T results of
            :func:`score_frame_identity`.

    Returns:
        VideoScores: One row an object, by id.

    Raises:
        ValueError: If the prediction has an id beyond the ground truth's.
    """
    num_gt, never_seen = _count_objects(frames)
    num_pred = max(frame.num_pred for frame in frames)
    if num_pred > num_gt:
        raise ValueError(
            f'the prediction has id {num_pred} but the ground truth has ids '
            f'up to {num_gt}; under the identity protocol ids must agree '
            '(use the unsupervised protocol for free proposals).'
        )
    # An id that a frame does not mention is empty on both sides: 1.
    j = np.ones((num_gt, len(frames)))
    f = np.ones((num_gt, len(frames)))
    for t, frame in enumerate(frames):
        j[: len(frame.j), t] = frame.j
        f[: len(frame.f), t] = frame.f
    ids = list(range(1, num_gt + 1))
    return VideoScores(j, f, ids, ids, never_seen)


def combine_unsupervised(
    frames: Sequence[FrameScores], max_proposals: int = MAX_PROPOSALS
) -> VideoScores:
    """Give each object the proposal that makes the total J&F largest.

    The assignment holds for the whole video and each proposal is used once;
    if there are fewer proposals than objects, empty ones fill up. Rows come
    in the order of the *proposals*, like the official per-object output.

    Args:
        frames (Sequence[FrameScores]): T results of
            :func:`score_frame_pairs`.
        max_proposals (int): Highest proposal id allowed.

    Returns:
        VideoScores: One row a matched pair, by proposal id.

    Raises:
        ValueError: If the prediction has an id beyond ``max_proposals``.
    """
    num_gt, never_seen = _count_objects(frames)
    num_pred = max(frame.num_pred for frame in frames)
    if num_pred > max_proposals:
        raise ValueError(
            f'the prediction has id {num_pred} but the unsupervised protocol '
            f'allows {max_proposals} proposals; renumber or drop some.'
        )
    num_pred = max(num_pred, num_gt)
    j = np.empty((num_pred, num_gt, len(frames)))
    f = np.empty((num_pred, num_gt, len(frames)))
    pred_ids = np.arange(1, num_pred + 1)
    gt_ids = np.arange(1, num_gt + 1)
    for t, frame in enumerate(frames):
        # An id beyond those of this frame is the empty mask, index 0.
        rows = np.where(pred_ids < frame.j.shape[0], pred_ids, 0)
        cols = np.where(gt_ids < frame.j.shape[1], gt_ids, 0)
        j[:, :, t] = frame.j[np.ix_(rows, cols)]
        f[:, :, t] = frame.f[np.ix_(rows, cols)]
    quality = (j.mean(axis=2) + f.mean(axis=2)) / 2
    rows, cols = linear_sum_assignment(-quality)
    return VideoScores(
        j[rows, cols],
        f[rows, cols],
        gt_ids[cols].tolist(),
        pred_ids[rows].tolist(),
        never_seen,
    )


@dataclass(frozen=True)
class Protocol:
    """How label maps become scores of objects.

    Attributes:
        score_frame (Callable): Scores one frame; frames are independent, so
            they may be scored in any order and process.
        combine (Callable): Pairs the objects of a video, given its frames in
            order.
    """

    score_frame: Callable[[ArrayLike, ArrayLike | TrueLabels], FrameScores]
    combine: Callable[[Sequence[FrameScores]], VideoScores]


PROTOCOLS: dict[str, Protocol] = {
    'identity': Protocol(score_frame_identity, combine_identity),
    'unsupervised': Protocol(score_frame_pairs, combine_unsupervised),
}


def summarize(videos: Mapping[str, VideoScores]) -> dict:
    """Statistics of every object, and their means over all objects.

    Args:
        videos (Mapping[str, VideoScores]): Scores by the video's name.

    Returns:
        dict: ``J&F``, ``{J,F}-{Mean,Recall,Decay}`` as fractions, and
        ``per_object``: ``<video>_<row from 1>`` -> ``J`` and ``F``, each
        ``[mean, recall, decay]``.

    Raises:
        ValueError: If there is no object at all.
    """
    per_object: dict[str, dict[str, list[float]]] = {}
    for name, scores in videos.items():
        for row, (j, f) in enumerate(zip(scores.j, scores.f, strict=True)):
            per_object[f'{name}_{row + 1}'] = {
                'J': list(sequence_statistics(j)),
                'F': list(sequence_statistics(f)),
            }
    if not per_object:
        raise ValueError(
            'The ground truth holds no object: every pixel is background or '
            'void, so there is nothing to score.'
        )
    j_mean, j_recall, j_decay = np.mean(
        [entry['J'] for entry in per_object.values()], axis=0
    ).tolist()
    f_mean, f_recall, f_decay = np.mean(
        [entry['F'] for entry in per_object.values()], axis=0
    ).tolist()
    return {
        'J&F': (j_mean + f_mean) / 2,
        'J-Mean': j_mean,
        'J-Recall': j_recall,
        'J-Decay': j_decay,
        'F-Mean': f_mean,
        'F-Recall': f_recall,
        'F-Decay': f_decay,
        'per_object': per_object,
    }
