# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Label maps: matching and averaging of each protocol.

A :class:`LabelProtocol` pairs predicted and true objects, and
:func:`summarize` averages over objects; :func:`summarize_annotators` does so
for Ref-DAVIS17. Masks of expressions are not matched, see
:mod:`.expression_scores`.

Symbols: ``T`` frames, ``G`` ground-truth objects, ``P`` predicted objects.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from referformer.errors import DataError
from referformer.evaluation.functional.expression_scores import mean_scores
from referformer.evaluation.functional.tracks import (
    FrameScores,
    SequenceStatistics,
    VideoScores,
    sequence_statistics,
)

MAX_PROPOSALS = 20
"""Proposals a video that the DAVIS-2017 unsupervised task allows."""
THRESHOLD = 0.5
"""Probability below which an object is not there at all."""


def _shown_ids(frames: Sequence[FrameScores]) -> set[int]:
    """Ids that some frame of the ground truth shows."""
    if not frames:
        raise DataError('A video without frames cannot be scored.')
    return {
        index
        for frame in frames
        for index in (np.flatnonzero(frame.gt_areas) + 1).tolist()
    }


def combine_identity(frames: Sequence[FrameScores]) -> VideoScores:
    """Prediction k is object k, in every frame; one it lacks is empty.

    Args:
        frames (Sequence[FrameScores]): T frames, equal ids compared.

    Returns:
        VideoScores: One row an object, by id.

    Raises:
        DataError: If the prediction has an id beyond the ground truth's.
    """
    shown = _shown_ids(frames)
    num_gt = max(shown, default=0)
    num_pred = max(frame.num_pred for frame in frames)
    if num_pred > num_gt:
        raise DataError(
            f'the prediction has id {num_pred} but the ground truth has ids '
            f'up to {num_gt}; under the identity protocol ids must agree '
            '(use the unsupervised protocol for free proposals).'
        )
    # An id that a frame does not mention is empty on both sides: 1.
    scores = np.ones((2, num_gt, len(frames)))
    for t, frame in enumerate(frames):
        scores[:, : frame.scores.shape[1], t] = frame.scores
    ids = list(range(1, num_gt + 1))
    never_seen = [index for index in ids if index not in shown]
    return VideoScores(*scores, ids, ids, never_seen, [])


def combine_unsupervised(frames: Sequence[FrameScores]) -> VideoScores:
    """Give each object the proposal that makes the total J&F largest.

    The assignment holds for the whole video and each proposal is used once;
    if there are fewer proposals than objects, empty ones fill up. Objects are
    the ids 1 to the highest of the *first* frame, as in the official code;
    what appears later with a higher id is background.

    Args:
        frames (Sequence[FrameScores]): T frames in order of time, every pair
            compared.

    Returns:
        VideoScores: One row a matched pair, by proposal id, like the official
        per-object output.

    Raises:
        DataError: If the prediction has more than :data:`MAX_PROPOSALS`.
    """
    # It takes longer to import than everything else together.
    from scipy.optimize import linear_sum_assignment

    shown = _shown_ids(frames)
    num_gt = len(frames[0].gt_areas)
    num_pred = max(frame.num_pred for frame in frames)
    if num_pred > MAX_PROPOSALS:
        raise DataError(
            f'the prediction has id {num_pred} but the unsupervised protocol '
            f'allows {MAX_PROPOSALS} proposals; renumber or drop some.'
        )
    num_pred = max(num_pred, num_gt)
    scores = np.empty((2, num_pred, num_gt, len(frames)))
    pred_ids = np.arange(1, num_pred + 1)
    gt_ids = np.arange(1, num_gt + 1)
    for t, frame in enumerate(frames):
        # An id beyond those of this frame is the empty mask, index 0.
        rows = np.where(pred_ids < frame.scores.shape[1], pred_ids, 0)
        cols = np.where(gt_ids < frame.scores.shape[2], gt_ids, 0)
        scores[..., t] = frame.scores[:, rows[:, None], cols]
    j, f = scores
    quality = (j.mean(axis=2) + f.mean(axis=2)) / 2
    rows, cols = linear_sum_assignment(-quality)
    return VideoScores(
        j[rows, cols],
        f[rows, cols],
        gt_ids[cols].tolist(),
        pred_ids[rows].tolist(),
        [index for index in gt_ids.tolist() if index not in shown],
        sorted(index for index in shown if index > num_gt),
    )


def remark_on_late_objects(video: str, scores: VideoScores) -> str | None:
    """Describe objects that appear too late to be scored; None if none do."""
    if not scores.not_scored:
        return None
    ids = ', '.join(map(str, scores.not_scored))
    count = len(scores.gt_ids)
    first = f'has ids up to {count}' if count else 'shows no object'
    return (
        f'the first frame of {video} {first}, but later frames show id {ids};'
        ' as in the official code, the first frame tells the objects and the '
        'others are background.'
    )


class LabelProtocol(NamedTuple):
    """How label maps become scores of objects.

    Attributes:
        every_pair (bool): What :meth:`TrueLabels.compare` compares in a
            frame; frames may be scored in any order and process.
        combine (Callable): Pairs the objects of a video, given its frames in
            order.
    """

    every_pair: bool
    combine: Callable[[Sequence[FrameScores]], VideoScores]


PROTOCOLS: dict[str, LabelProtocol] = {
    'identity': LabelProtocol(False, combine_identity),
    'unsupervised': LabelProtocol(True, combine_unsupervised),
}


def summarize(videos: Mapping[str, VideoScores]) -> dict[str, Any]:
    """Statistics of every object, and their means over all objects.

    Args:
        videos (Mapping[str, VideoScores]): Scores by the video's name.

    Returns:
        dict: ``J&F``, ``{J,F}-{Mean,Recall,Decay}`` as fractions, and
        ``per_object``: ``<video>_<row from 1>`` -> ``J`` and ``F``, each
        ``[mean, recall, decay]``.

    Raises:
        DataError: If there is no object at all.
    """
    per_object: dict[str, dict[str, list[float]]] = {}
    for name, scores in videos.items():
        for row, (j, f) in enumerate(zip(scores.j, scores.f, strict=True)):
            per_object[f'{name}_{row + 1}'] = {
                'J': list(sequence_statistics(j)),
                'F': list(sequence_statistics(f)),
            }
    if not per_object:
        raise DataError(
            'The ground truth holds no object: every pixel is background or '
            'void, so there is nothing to score.'
        )
    means = {}
    for measure in 'JF':
        rows = [entry[measure] for entry in per_object.values()]
        for field, value in zip(
            SequenceStatistics._fields, np.mean(rows, axis=0), strict=True
        ):
            means[f'{measure}-{field.capitalize()}'] = float(value)
    j_and_f = (means['J-Mean'] + means['F-Mean']) / 2
    return {'J&F': j_and_f, **means, 'per_object': per_object}


def count_frames(videos: Mapping[str, VideoScores]) -> int:
    """Frames that were scored, in all videos."""
    return sum(scores.j.shape[1] for scores in videos.values())


def merge_objects(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Let the objects of a frame compete for its pixels.

    Args:
        probabilities (Sequence[np.ndarray]): Foreground probability of each
            object, G arrays of shape (H, W).

    Returns:
        np.ndarray: Label map, uint8, (H, W): 0, or 1 + position of the
        likeliest object; of equals the first.
    """
    stack = np.stack([np.asarray(p, np.float32) for p in probabilities])
    # The protocol sets probabilities below the threshold to zero and gives
    # the background 0.1 everywhere, which this is the same as.
    best = stack.argmax(axis=0)
    present = stack.max(axis=0) >= THRESHOLD
    return np.where(present, best + 1, 0).astype(np.uint8)


def summarize_annotators(
    annotators: Sequence[Mapping[str, VideoScores]],
) -> dict[str, Any]:
    """Mean over objects, then over annotators.

    Args:
        annotators (Sequence[Mapping[str, VideoScores]]): For each annotator,
            scores by the video's name.

    Returns:
        dict: ``J&F``, ``J``, ``F`` as fractions, and ``per_annotator``:
        ``anno_<i>`` -> ``J&F``, ``J``, ``F``, ``per_object``.

    Raises:
        DataError: If there is no object at all.
    """
    per_annotator = {}
    for index, videos in enumerate(annotators):
        # Sorted, so that the order of the videos does not matter.
        summary = summarize({name: videos[name] for name in sorted(videos)})
        per_annotator[f'anno_{index}'] = {
            'J&F': summary['J&F'],
            'J': summary['J-Mean'],
            'F': summary['F-Mean'],
            'per_object': summary['per_object'],
        }
    means = mean_scores(per_annotator.values())
    return {**means, 'per_annotator': per_annotator}
