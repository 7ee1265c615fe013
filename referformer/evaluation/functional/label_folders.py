# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores of folders of label maps, ``<root>/<video>/<frame>.png``."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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
    """Frames to score: those of the ground truth, all of them predicted.

    Further videos and frames of the prediction are ignored.

    Args:
        gt_root (str | Path): Folder with the true masks.
        pred_root (str | Path): Folder with the predicted masks.

    Returns:
        dict[str, list[str]]: Names of the frames by the video's name.

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
    missing = []
    for video, names in frames.items():
        present = set(list_frames(pred_root / video, ('.png',)))
        missing += [f'{video}/{n}.png' for n in names if n not in present]
    if missing:
        total = sum(len(names) for names in frames.values())
        raise DataError(
            f'{pred_root} lacks {len(missing)} of {total} frames: '
            f'{shorten(missing)}; write an all-zero mask where nothing was '
            'found.',
            file=pred_root,
        )
    return frames


class _Chunk(NamedTuple):
    """Consecutive frames of one video, the unit of parallel work."""

    video: str
    frames: list[str]
    gt: Path
    preds: tuple[Path, ...]
    protocol: str


def _score_chunk(chunk: _Chunk) -> list[list[FrameScores]]:
    """Read and score some frames: for each prediction, its frames."""
    every_pair = PROTOCOLS[chunk.protocol].every_pair
    scores: list[list[FrameScores]] = [[] for _ in chunk.preds]
    for frame in chunk.frames:
        truth = TrueLabels(
            read_label_map(chunk.gt / chunk.video / f'{frame}.png')
        )
        for found, root in zip(scores, chunk.preds, strict=True):
            path = root / chunk.video / f'{frame}.png'
            pred = read_label_map(path, truth.shape)
            found.append(truth.compare(pred, every_pair))
    return scores


class LabelFolderScores(NamedTuple):
    """Scores of folders of predicted label maps.

    Attributes:
        preds (list[dict[str, VideoScores]]): For each folder, scores by the
            video's name.
        num_frames (int): Frames of the ground truth, in all videos.
    """

    preds: list[dict[str, VideoScores]]
    num_frames: int


def score_label_folders(
    gt: Path, preds: Sequence[Path], protocol: str, jobs: int = 1
) -> LabelFolderScores:
    """Score label maps, maybe several predictions of the same ground truth.

    The frames scored are those of the ground truth. Its files are read, and
    its outlines drawn, once for all predictions.

    Args:
        gt (Path): Folder of the true label maps.
        preds (Sequence[Path]): Folders of predicted label maps.
        protocol (str): A key of :data:`~.protocols.PROTOCOLS`.
        jobs (int): Processes to use.

    Returns:
        LabelFolderScores: The scores.

    Raises:
        DataError: If a folder lacks something, a file is unusable, or
            masks do not fit the protocol.
    """
    for pred in preds:
        plan = match_frames(gt, pred)
    chunks = [
        _Chunk(
            video,
            names[start : start + _CHUNK],
            gt,
            tuple(preds),
            protocol,
        )
        for video, names in plan.items()
        for start in range(0, len(names), _CHUNK)
    ]
    sizes = [len(chunk.frames) * len(preds) for chunk in chunks]
    results = map_tasks(_score_chunk, chunks, jobs, sizes, 'frames')
    found = []
    for index, pred in enumerate(preds):
        frames: dict[str, list[FrameScores]] = {video: [] for video in plan}
        for chunk, scores in zip(chunks, results, strict=True):
            frames[chunk.video] += scores[index]
        found.append(
            {
                video: _combine(
                    gt / video, pred / video, names, frames[video], protocol
                )
                for video, names in plan.items()
            }
        )
    # The ground truth is the same for all predictions: one remark will do.
    for video, scores in found[0].items():
        _remark(gt / video, scores)
    return LabelFolderScores(found, sum(map(len, plan.values())))


def _combine(
    gt: Path,
    pred: Path,
    names: list[str],
    frames: list[FrameScores],
    protocol: str,
) -> VideoScores:
    """Pair the objects of a video whose frames are scored.

    Args:
        gt (Path): Folder of the true label maps of the video.
        pred (Path): Folder of the predicted ones.
        names (list[str]): Frames, in order of time.
        frames (list[FrameScores]): Their scores.
        protocol (str): A key of ``PROTOCOLS``.

    Returns:
        VideoScores: Scores of its objects.

    Raises:
        DataError: If the masks do not fit the protocol or are binary
            images rather than label maps.
    """
    if not any(frame.gt_areas.size for frame in frames):
        _refuse_binary_masks(gt, names)
    if not any(frame.num_pred for frame in frames):
        _refuse_binary_masks(pred, names, gt)
    try:
        return PROTOCOLS[protocol].combine(frames)
    except DataError as error:
        raise DataError(f'{pred}: {error}', file=pred) from None


def _refuse_binary_masks(
    folder: Path, names: list[str], copied: Path | None = None
) -> None:
    """Raise if label maps without any object have void pixels.

    Args:
        folder (Path): Label maps of a video.
        names (list[str]): Its frames.
        copied (Path, optional): Label maps whose void may be copied.

    Raises:
        DataError: If one has 255.
    """
    for name in names:
        void = read_label_map(folder / f'{name}.png') == VOID_LABEL
        if copied is not None:
            void &= read_label_map(copied / f'{name}.png') != VOID_LABEL
        if void.any():
            raise DataError(
                f'{folder} has the values 0 and 255 only, and 255 means '
                'void here; write object ids (1, 2, ...) instead of 255.',
                file=folder,
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

    Args:
        root (str | Path): Holds ``anno_0`` to ``anno_3``, or ``valid`` with
            them in it, as the published code writes it.

    Raises:
        MissingDataError: If one does not exist.
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
