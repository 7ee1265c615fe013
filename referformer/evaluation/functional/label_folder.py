# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores of folders of label maps, ``<root>/<video>/<frame>.png``."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from referformer.evaluation.functional.davis import (
    PROTOCOLS,
    VOID_LABEL,
    FrameScores,
    TrueLabels,
    VideoScores,
)
from referformer.formats.label_maps import (
    DataError,
    match_frames,
    read_label_map,
)
from referformer.utils.console import warn
from referformer.utils.parallel import ProgressBar, run_tasks

# Frames a process scores at a time.
_CHUNK = 16


class _Chunk(NamedTuple):
    """Consecutive frames of one video, the unit of parallel work."""

    video: str
    frames: list[str]
    gt: Path
    preds: tuple[Path, ...]
    protocol: str


class _ChunkScores(NamedTuple):
    """What a process sends back.

    Attributes:
        scores (list[list[FrameScores]]): For each prediction, its frames.
        gt_void (bool): Whether the ground truth has 255 anywhere.
        pred_void (list[bool]): For each prediction, whether it has 255 where
            the ground truth has not.
    """

    scores: list[list[FrameScores]]
    gt_void: bool
    pred_void: list[bool]


def _score_chunk(chunk: _Chunk) -> _ChunkScores:
    """Read and score some frames of a video."""
    score_frame = PROTOCOLS[chunk.protocol].score_frame
    scores: list[list[FrameScores]] = [[] for _ in chunk.preds]
    gt_void, pred_void = False, [False] * len(chunk.preds)
    for frame in chunk.frames:
        gt_path = chunk.gt / chunk.video / f'{frame}.png'
        truth = TrueLabels(read_label_map(gt_path))
        gt_void = gt_void or truth.void is not None
        for index, root in enumerate(chunk.preds):
            pred_path = root / chunk.video / f'{frame}.png'
            pred = read_label_map(pred_path)
            if pred.shape != truth.shape:
                raise DataError(
                    f'{pred_path} is {pred.shape[1]} x {pred.shape[0]} pixels '
                    f'but {gt_path} is {truth.shape[1]} x {truth.shape[0]}; '
                    'write predictions at the size of the ground truth.'
                )
            if not pred_void[index]:
                void = pred == VOID_LABEL
                if truth.void is not None:
                    void &= ~truth.void
                pred_void[index] = bool(void.any())
            scores[index].append(score_frame(pred, truth))
    return _ChunkScores(scores, gt_void, pred_void)


class LabelFolderScores(NamedTuple):
    """Scores of one folder of predicted label maps.

    Attributes:
        videos (dict[str, VideoScores]): Scores by the video's name.
        num_frames (int): Frames scored, in all videos.
    """

    videos: dict[str, VideoScores]
    num_frames: int


def score_label_folders(
    gt: Path, preds: Sequence[Path], protocol: str, jobs: int = 1
) -> list[LabelFolderScores]:
    """Score label maps, maybe several predictions of the same ground truth.

    The frames scored are those of the ground truth. Its files are read, and
    its outlines drawn, once for all predictions.

    Args:
        gt (Path): Folder of the true label maps.
        preds (Sequence[Path]): Folders of predicted label maps.
        protocol (str): A key of :data:`~.davis.PROTOCOLS`.
        jobs (int): Processes to use.

    Returns:
        list[LabelFolderScores]: One entry a prediction.

    Raises:
        DataError: If a folder lacks something, a file is unusable, or
            masks do not fit the protocol.
    """
    for pred in preds:
        plan = match_frames(gt, pred)
    chunks = [
        _Chunk(
            video, names[start : start + _CHUNK], gt, tuple(preds), protocol
        )
        for video, names in plan.items()
        for start in range(0, len(names), _CHUNK)
    ]
    num_frames = sum(map(len, plan.values()))
    progress = ProgressBar(num_frames * len(preds), 'frames')
    parts: dict[int, _ChunkScores] = {}
    for index, result in run_tasks(_score_chunk, chunks, jobs):
        parts[index] = result
        progress.update(len(chunks[index].frames) * len(preds))
    by_video: dict[str, list[_ChunkScores]] = {video: [] for video in plan}
    for index, chunk in enumerate(chunks):
        by_video[chunk.video].append(parts[index])
    return [
        LabelFolderScores(
            {
                video: _combine(gt / video, pred / video, results, i, protocol)
                for video, results in by_video.items()
            },
            num_frames,
        )
        for i, pred in enumerate(preds)
    ]


def _combine(
    gt: Path,
    pred: Path,
    chunks: Sequence[_ChunkScores],
    index: int,
    protocol: str,
) -> VideoScores:
    """Pair the objects of a video whose frames are scored.

    Args:
        gt (Path): Folder of the true masks of the video, for messages.
        pred (Path): Folder of the predicted ones.
        chunks (Sequence[_ChunkScores]): All its chunks, in order of time.
        index (int): Which prediction.
        protocol (str): A key of ``PROTOCOLS``.

    Returns:
        VideoScores: Scores of its objects.

    Raises:
        DataError: If the masks do not fit the protocol or are binary
            images rather than label maps.
    """
    frames = [score for chunk in chunks for score in chunk.scores[index]]
    no_gt = not any(frame.gt_areas.size for frame in frames)
    no_pred = not any(frame.num_pred for frame in frames)
    for empty, void, folder in (
        (no_gt, any(chunk.gt_void for chunk in chunks), gt),
        (no_pred, any(chunk.pred_void[index] for chunk in chunks), pred),
    ):
        if empty and void:
            raise DataError(
                f'{folder} has the values 0 and 255 only, and 255 means '
                'void here; write object ids (1, 2, ...) instead of 255.'
            )
    try:
        scores = PROTOCOLS[protocol].combine(frames)
    except ValueError as error:
        raise DataError(f'{pred}: {error}') from None
    # The ground truth is the same for all predictions: one remark will do.
    if no_gt and not index:
        warn(f'{gt} shows no object; the video does not count.')
    elif scores.never_seen and not index:
        ids = ', '.join(map(str, scores.never_seen))
        warn(
            f'no frame of {gt} shows id {ids}, though higher ids exist; '
            'scored as absent throughout.'
        )
    return scores
