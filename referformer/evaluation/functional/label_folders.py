# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores of folders of label maps, ``<root>/<video>/<frame>.png``."""

from collections.abc import Sequence
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
from referformer.formats.label_maps import (
    list_label_maps,
    list_videos,
    read_label_map,
)
from referformer.formats.predictions import PredictedLabels, open_label_maps
from referformer.utils.console import shorten, warn
from referformer.utils.parallel import map_tasks

# Frames a process scores at a time.
_CHUNK = 16
# How the label maps of an annotator may be stored.
_FORMS = ('', '.zip', '.json', '.jsonl')


def match_frames(
    gt_root: str | Path, pred_root: str | Path
) -> tuple[dict[str, list[str]], PredictedLabels]:
    """Names of the frames to score, by the video's name; and predictions.

    They are those of the ground truth, all of them predicted. Further videos
    and frames of the prediction are ignored.

    Raises:
        DataError: If a folder is missing or empty, or the prediction
            lacks a video or a frame. A missing one is never scored as zero:
            the score would hide that the run is incomplete.
    """
    gt_root, pred_root = Path(gt_root), Path(pred_root)
    frames = {
        name: list_label_maps(gt_root / name) for name in list_videos(gt_root)
    }
    preds = open_label_maps(pred_root, frames)
    present = {name: preds.list_frames(name) for name in frames}
    lost = [name for name, listed in present.items() if listed is None]
    if lost:
        raise DataError(
            f'{pred_root} lacks {len(lost)} of {len(frames)} videos: '
            f'{shorten(lost)}; write their masks (all zeros where nothing '
            'was found) or take them out of the ground truth folder.',
            file=pred_root,
        )
    for video, names in frames.items():
        listed = present[video] or ()
        lost += [f'{video}/{n}.png' for n in names if n not in listed]
    if lost:
        raise DataError(
            f'{pred_root} lacks {len(lost)} of '
            f'{sum(map(len, frames.values()))} frames: {shorten(lost)}; '
            'write an all-zero mask where nothing was found.',
            file=pred_root,
        )
    return frames, preds


def score_label_folders(
    gt: Path, preds: Sequence[Path], protocol: str, jobs: int = 1
) -> list[dict[str, VideoScores]]:
    """Score label maps, maybe several predictions of the same ground truth.

    The frames scored are those of the ground truth. Its files are read, and
    its outlines drawn, once for all predictions.

    Args:
        gt (Path): Folder of the true label maps.
        preds (Sequence[Path]): Folders of predicted label maps, or zip or
            JSON files of them.
        protocol (str): A key of :data:`~.protocols.PROTOCOLS`.
        jobs (int): Processes to use.

    Returns:
        list[dict[str, VideoScores]]: For each folder, scores by the video's
        name.

    Raises:
        DataError: If a folder lacks something, a file is unusable, or
            masks do not fit the protocol.
    """
    opened = []
    for pred in preds:
        plan, labels = match_frames(gt, pred)
        opened.append(labels)
    chunks = [
        [(video, name) for name in names[start : start + _CHUNK]]
        for video, names in plan.items()
        for start in range(0, len(names), _CHUNK)
    ]
    shared = (gt, opened, PROTOCOLS[protocol].every_pair)
    sizes = [len(chunk) * len(preds) for chunk in chunks]
    results = map_tasks(_score_chunk, chunks, jobs, sizes, 'frames', shared)
    frames = iter(frame for chunk in results for frame in chunk)
    found: list[dict[str, VideoScores]] = [{} for _ in preds]
    for video, names in plan.items():
        by_pred = zip(*(next(frames) for _ in names), strict=True)
        for videos, pred, scores in zip(found, opened, by_pred, strict=True):
            _refuse_binary_masks(gt, pred, video, names, scores)
            try:
                videos[video] = PROTOCOLS[protocol].combine(scores)
            except DataError as error:
                place = pred.path / video
                raise DataError(f'{place}: {error}', file=place) from None
        # The ground truth is the same for all: warn once.
        _remark(gt / video, found[0][video])
    return found


def _score_chunk(
    shared: tuple[Path, Sequence[PredictedLabels], bool],
    names: list[tuple[str, str]],
) -> list[list[FrameScores]]:
    """Read and score some frames: for each, the scores of all predictions."""
    gt, preds, every_pair = shared
    scores = []
    for video, name in names:
        truth = TrueLabels(read_label_map(gt / video / f'{name}.png'))
        labels = (pred.read(video, name, truth.shape) for pred in preds)
        scores.append([truth.compare(pred, every_pair) for pred in labels])
    return scores


def _refuse_binary_masks(
    gt: Path,
    pred: PredictedLabels,
    video: str,
    names: list[str],
    scores: Sequence[FrameScores],
) -> None:
    """Raise if either side has no object but void: 255 means void here."""
    suspects = []
    if not any(frame.gt_areas.size for frame in scores):
        suspects.append(gt)
    if not any(frame.num_pred for frame in scores):
        suspects.append(pred.path)
    for root in suspects:
        for name in names:
            true = read_label_map(gt / video / f'{name}.png')
            void = true == VOID_LABEL
            if root != gt:  # where it may be copied
                void = pred.read(video, name, true.shape) == VOID_LABEL
                void &= true != VOID_LABEL
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
    the published code writes it; each may be a zip or JSON file as well. Else
    ``MissingDataError`` is raised.
    """
    root = Path(root)
    if (root / 'valid').is_dir():
        root = root / 'valid'
    folders = []
    lost = []
    for index in range(NUM_ANNOTATORS):
        forms = [root / f'anno_{index}{end}' for end in _FORMS]
        found = [path for path in forms if path.exists()]
        folders += found[:1]
        lost += [] if found else [f'anno_{index}']
    if lost:
        raise MissingDataError(
            f'{root} lacks {", ".join(lost)}; the published protocol takes '
            'anno_<0..3>/<video>/<frame>.png, label maps of one annotator '
            'each. For <video>/<expression>/<frame>.png take the '
            'per-expression protocol.',
            file=root,
        )
    return folders
