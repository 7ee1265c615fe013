# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores of folders of label maps, ``<root>/<video>/<frame>.png``."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from referformer.errors import DataError, MissingDataError
from referformer.evaluation.functional.protocols import (
    PROTOCOLS,
    remark_on_late_objects,
)
from referformer.evaluation.functional.tracks import (
    VOID_LABEL,
    FrameScores,
    TrueLabels,
    VideoScores,
)
from referformer.formats.davis_text import NUM_ANNOTATORS
from referformer.formats.frames import list_frames
from referformer.formats.label_maps import (
    list_label_maps,
    list_videos,
    read_label_map,
)
from referformer.utils.console import shorten, warn
from referformer.utils.parallel import map_tasks

# Frames a process scores at a time.
_CHUNK = 16


def match_frames(
    gt_root: str | Path, pred_root: str | Path
) -> dict[str, list[str]]:
    """Names of the frames to score, by the video's name.

    They are those of the ground truth, all of them predicted. Further videos
    and frames of the prediction are ignored.

    Raises:
        DataError: If a folder is missing or empty, or the prediction
            lacks a video or a frame. A missing one is never scored as zero:
            that would pass a broken run off as a bad one.
    """
    gt_root, pred_root = Path(gt_root), Path(pred_root)
    frames = {
        name: list_label_maps(gt_root / name) for name in list_videos(gt_root)
    }
    if not pred_root.is_dir():
        raise MissingDataError(f'{pred_root} is not a folder.', file=pred_root)
    lost = [name for name in frames if not (pred_root / name).is_dir()]
    if lost:
        raise DataError(
            f'{pred_root} lacks {len(lost)} of {len(frames)} videos: '
            f'{shorten(lost)}; write their masks (all zeros where nothing '
            'was found) or take them out of the ground truth folder.',
            file=pred_root,
        )
    for video, names in frames.items():
        present = list_frames(pred_root / video, ('.png',))
        lost += [f'{video}/{n}.png' for n in names if n not in present]
    if lost:
        raise DataError(
            f'{pred_root} lacks {len(lost)} of '
            f'{sum(map(len, frames.values()))} frames: {shorten(lost)}; '
            'write an all-zero mask where nothing was found.',
            file=pred_root,
        )
    return frames


def score_label_folders(
    gt: Path, preds: Sequence[Path], protocol: str, jobs: int = 1
) -> list[dict[str, VideoScores]]:
    """Score label maps, maybe several predictions of the same ground truth.

    The frames scored are those of the ground truth. Its files are read, and
    its outlines drawn, once for all predictions.

    Args:
        gt (Path): Folder of the true label maps.
        preds (Sequence[Path]): Folders of predicted label maps.
        protocol (str): A key of :data:`~.protocols.PROTOCOLS`.
        jobs (int): Processes to use.

    Returns:
        list[dict[str, VideoScores]]: For each folder, scores by the video's
        name.

    Raises:
        DataError: If a folder lacks something, a file is unusable, or
            masks do not fit the protocol.
    """
    for pred in preds:
        plan = match_frames(gt, pred)
    chunks = [
        [f'{video}/{name}.png' for name in names[start : start + _CHUNK]]
        for video, names in plan.items()
        for start in range(0, len(names), _CHUNK)
    ]
    score = partial(_score_chunk, gt, preds, PROTOCOLS[protocol].every_pair)
    sizes = [len(chunk) * len(preds) for chunk in chunks]
    results = map_tasks(score, chunks, jobs, sizes, 'frames')
    frames = iter(frame for chunk in results for frame in chunk)
    found: list[dict[str, VideoScores]] = [{} for _ in preds]
    for video, names in plan.items():
        by_pred = zip(*(next(frames) for _ in names), strict=True)
        for videos, pred, scores in zip(found, preds, by_pred, strict=True):
            _refuse_binary_masks(gt, pred, video, names, scores)
            try:
                videos[video] = PROTOCOLS[protocol].combine(scores)
            except DataError as error:
                place = pred / video
                raise DataError(f'{place}: {error}', file=place) from None
        # The ground truth is the same for all: one remark will do.
        _remark(gt / video, found[0][video])
    return found


def _score_chunk(
    gt: Path, preds: Sequence[Path], every_pair: bool, files: list[str]
) -> list[list[FrameScores]]:
    """Read and score some frames: for each, the scores of all predictions."""
    scores = []
    for file in files:
        truth = TrueLabels(read_label_map(gt / file))
        labels = (read_label_map(pred / file, truth.shape) for pred in preds)
        scores.append([truth.compare(pred, every_pair) for pred in labels])
    return scores


def _refuse_binary_masks(
    gt: Path,
    pred: Path,
    video: str,
    names: list[str],
    scores: Sequence[FrameScores],
) -> None:
    """Raise if either side has no object but void: 255 means void here."""
    suspects = []
    if not any(frame.gt_areas.size for frame in scores):
        suspects.append((gt, False))
    if not any(frame.num_pred for frame in scores):
        suspects.append((pred, True))
    for root, may_copy in suspects:
        for name in names:
            file = f'{video}/{name}.png'
            void = read_label_map(root / file) == VOID_LABEL
            if may_copy:
                void &= read_label_map(gt / file) != VOID_LABEL
            if void.any():
                raise DataError(
                    f'{root / video} has the values 0 and 255 only, and 255 '
                    'means void here; write object ids (1, 2, ...) instead '
                    'of 255.',
                    file=root / video,
                )


def _remark(gt: Path, scores: VideoScores) -> None:
    """Say what is unusual about the ground truth of a video."""
    late = remark_on_late_objects(str(gt), scores)
    if late is not None:
        warn(late)
    if not scores.gt_ids:
        if late is None:
            warn(f'{gt} shows no object; the video does not count.')
    elif scores.never_seen:
        ids = ', '.join(map(str, scores.never_seen))
        warn(
            f'no frame of {gt} shows id {ids}, though higher ids exist; '
            'scored as absent throughout.'
        )


def annotator_folders(root: str | Path) -> list[Path]:
    """Folders of the label maps of each annotator of Ref-DAVIS17.

    ``root`` holds ``anno_0`` to ``anno_3``, or ``valid`` with them in it, as
    the published code writes it; else ``MissingDataError`` is raised.
    """
    root = Path(root)
    if (root / 'valid' / 'anno_0').is_dir():
        root = root / 'valid'
    folders = [root / f'anno_{index}' for index in range(NUM_ANNOTATORS)]
    lost = [folder.name for folder in folders if not folder.is_dir()]
    if lost:
        raise MissingDataError(
            f'{root} lacks {", ".join(lost)}; the published protocol takes '
            'anno_<0..3>/<video>/<frame>.png, label maps of one annotator '
            'each. For <video>/<expression>/<frame>.png take the '
            'per-expression protocol.',
            file=root,
        )
    return folders
