# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""J and F of the objects of a frame, and of an object over a video.

Symbols: ``T`` frames, ``E`` expressions, ``G`` ground-truth objects, ``P``
predicted objects, ``H, W`` the size of a frame in pixels.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import product, zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from referformer.errors import DataError
from referformer.evaluation.functional.kernel import (
    BOUND_TH,
    MaskOutline,
    check_same_shape,
    compare,
    union_area,
)

VOID_LABEL = 255
"""Value of void pixels, which are ignored."""

TrueMask = Callable[[Hashable, tuple[int, int]], ArrayLike]
"""Gives the true mask (H, W) of a target, for a frame of the size (H, W)."""


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

    One frame is looked at after the other and nothing is kept, so the
    arguments may be generators.

    Args:
        preds (Iterable[ArrayLike]): T predicted masks, each (H, W).
        gts (Iterable[ArrayLike | MaskOutline]): T true masks, or outlines made
            once for several predictions (with their own void and tolerance).
        voids (Iterable[ArrayLike | None], optional): T maps of pixels to
            ignore.
        bound_th (float): Tolerance, see :func:`tolerance_radius`.

    Raises:
        ValueError: If the numbers of frames or the shapes differ.
    """
    columns = (preds, gts) if voids is None else (preds, gts, voids)
    scores = [
        compare(*frame, bound_th=bound_th)
        for frame in zip(*columns, strict=True)
    ]
    return SequenceScores(*np.array(scores, np.float64).reshape(-1, 2).T)


class TargetScores(NamedTuple):
    """What is measured of an expression in every frame.

    Each has the shape (T,), float64.

    Attributes:
        j (np.ndarray): Region similarity.
        f (np.ndarray): Boundary accuracy.
        true_area (np.ndarray): Pixels of the true mask.
        pred_area (np.ndarray): Pixels of the predicted mask; NaN where there
            is no prediction, which counts as wrong.
        false_area (np.ndarray): Predicted pixels outside of the true mask.
        foreground (np.ndarray): Pixels of all objects that the expressions
            of the video mean.
    """

    j: np.ndarray
    f: np.ndarray
    true_area: np.ndarray
    pred_area: np.ndarray
    false_area: np.ndarray
    foreground: np.ndarray


def score_targets(
    preds: Iterable[ArrayLike | None],
    targets: Sequence[Hashable],
    true_mask: TrueMask,
    bound_th: float = BOUND_TH,
    shape: tuple[int, int] | None = None,
) -> np.ndarray:
    """Measure all expressions of a video in one frame.

    Several expressions may mean the same: the outline of a target is drawn
    once, however many predictions it is compared with.

    Args:
        preds (Iterable[ArrayLike | None]): E predicted masks, each (H, W);
            None scores zero. Taken one by one.
        targets (Sequence[Hashable]): What each expression means.
        true_mask (TrueMask): Gives the mask of a target.
        bound_th (float): Tolerance, see :func:`tolerance_radius`.
        shape (tuple[int, int], optional): Size of the frame. Without it the
            true mask of an expression without prediction counts as empty.

    Returns:
        np.ndarray: The values of :class:`TargetScores`, float64, shape
        (6, E).

    Raises:
        DataError: If the sizes of two masks differ.
    """
    scores = TargetScores(*np.zeros((6, len(targets))))
    outlines: dict[Hashable, MaskOutline] = {}
    for e, (pred, target) in enumerate(zip(preds, targets, strict=True)):
        mine = None if pred is None else MaskOutline(pred, bound_th=bound_th)
        size = shape if mine is None else mine.shape
        if target not in outlines and size is not None:
            mask = true_mask(target, size)
            outlines[target] = MaskOutline(mask, bound_th=bound_th)
        truth = outlines.get(target)
        scores.true_area[e] = truth.area if truth else 0
        if mine is None:
            scores.pred_area[e] = math.nan
            continue
        check_same_shape(mine.shape, truth.shape, 'pred')
        shared = mine.overlap(truth)
        union = mine.area + truth.area - shared
        scores.j[e] = shared / union if union else 1
        scores.f[e] = mine.boundary_f(truth)
        scores.pred_area[e] = mine.area
        scores.false_area[e] = mine.area - shared
    scores.foreground[:] = union_area(list(outlines.values()))
    return np.stack(scores)


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

    Args:
        values (ArrayLike): One number a frame, shape (T,). NaN marks a frame
            that was not scored: mean and decay leave it out, and recall counts
            it as not above 0.5.

    Returns:
        SequenceStatistics: NaN where no frame was scored.

    Raises:
        DataError: If ``values`` is empty or not one-dimensional.
    """
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or not series.size:
        raise DataError(
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
    """Mean without NaNs; NaN, without a warning, if all are NaN."""
    # Zeros in place of NaN, summed over the whole array, keep numpy's order
    # of summation and with it the last bit of the official mean.
    scored = ~np.isnan(values)
    if not scored.any():
        return math.nan
    return float(np.where(scored, values, 0).sum() / scored.sum())


class FrameScores(NamedTuple):
    """Scores of the label maps of one frame, before objects are paired.

    Attributes:
        scores (np.ndarray): J and F; of every pair shape (2, p + 1, g + 1),
            entry [:, a, b] is prediction a against object b, and index 0 is
            the empty mask; else shape (2, n), entry [:, k - 1] is prediction
            k against object k.
        num_pred (int): Highest id in the prediction, p.
        gt_areas (np.ndarray): Pixels of the objects 1..g in the ground
            truth, where g is the highest id, int64, shape (g,).
    """

    scores: np.ndarray
    num_pred: int
    gt_areas: np.ndarray


class TrueLabels:
    """The true label map of one frame, ready to be compared many times.

    Args:
        labels (ArrayLike): True ids, 0 = background, 255 = void, (H, W).

    Attributes:
        shape (tuple[int, int]): Height and width.
    """

    def __init__(self, labels: ArrayLike) -> None:
        labels = np.asarray(labels)
        self.shape: tuple[int, int] = (labels.shape[0], labels.shape[1])
        self._scored = labels != VOID_LABEL
        self._nothing = MaskOutline(np.zeros(self.shape, bool))
        self._outlines = self._split(labels)
        self._areas = np.array([o.area for o in self._outlines], np.int64)

    def _split(self, labels: np.ndarray) -> list[MaskOutline]:
        """Outlines of the ids 1..max, those of void pixels left out."""
        # 255 in a prediction may stem from a copied annotation.
        labels = labels * (self._scored & (labels != VOID_LABEL))
        ids = range(1, int(labels.max(initial=0)) + 1)
        return [MaskOutline(labels == index) for index in ids]

    def compare(self, pred: ArrayLike, every_pair: bool) -> FrameScores:
        """Score a predicted label map.

        Args:
            pred (ArrayLike): Predicted ids, 0 and 255 = no object, (H, W).
            every_pair (bool): Whether to compare every id with every other,
                or only with its equal.

        Raises:
            DataError: If the sizes of the two maps differ.
        """
        pred = np.asarray(pred)
        check_same_shape(pred.shape, self.shape, 'pred')
        mine, true, nothing = self._split(pred), self._outlines, self._nothing
        if every_pair:
            shape = 2, len(mine) + 1, len(true) + 1
            pairs = product([nothing, *mine], [nothing, *true])
        else:
            shape = 2, -1
            pairs = zip_longest(mine, true, fillvalue=nothing)
        rows = [(a.iou(b), a.boundary_f(b)) for a, b in pairs]
        scores = np.array(rows, np.float64).reshape(-1, 2).T.reshape(shape)
        return FrameScores(scores, len(mine), self._areas)


class VideoScores(NamedTuple):
    """Scores of the objects of one video, after they were paired.

    Attributes:
        j (np.ndarray): Region similarity, float64, shape (G, T).
        f (np.ndarray): Boundary accuracy, float64, shape (G, T).
        gt_ids (list[int]): True id of each row.
        pred_ids (list[int]): Predicted id of each row.
        never_seen (list[int]): Ids below the highest one which no frame of
            the ground truth shows.
        not_scored (list[int]): Ids that later frames of the ground truth
            show but that do not count as objects.
    """

    j: np.ndarray
    f: np.ndarray
    gt_ids: list[int]
    pred_ids: list[int]
    never_seen: list[int]
    not_scored: list[int]
