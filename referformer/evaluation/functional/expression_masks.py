# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Scores of masks of expressions, ``<video>/<expression>/<frame>.png``.

Each expression is scored on its own, on all frames of its video, and may mean
several objects (their union) or none.
"""

from collections.abc import Hashable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from referformer.errors import DataError
from referformer.evaluation.functional.expression_scores import (
    measure_expression,
)
from referformer.evaluation.functional.tracks import (
    TargetScores,
    TrueMask,
    score_targets,
)
from referformer.formats.frames import find_file, list_frames
from referformer.formats.label_maps import read_label_map
from referformer.formats.mask_dict import open_mask_table
from referformer.formats.predictions import PredictedMasks
from referformer.utils.console import shorten, warn
from referformer.utils.parallel import map_tasks

# Masks a process scores at a time.
_CHUNK = 48


class VideoTargets(NamedTuple):
    """A video and the expressions to be scored in it.

    Attributes:
        video (str): Its name.
        frames (tuple[str, ...]): Names of its frames, in order of time.
        targets (dict[str, Hashable]): What each expression means, in the
            words of the ground truth.
        attributes (Mapping[str, Mapping[str, str]] | None): Of each
            expression, such as its type.
    """

    video: str
    frames: tuple[str, ...]
    targets: dict[str, Hashable]
    attributes: Mapping[str, Mapping[str, str]] | None = None

    def mask_name(self, expression: str, index: int) -> str:
        """Name of the predicted mask of an expression in frame ``index``."""
        return f'{self.video}/{expression}/{self.frames[index]}.png'


class LabelTruth(NamedTuple):
    """Label maps, ``<root>/<video>/<frame>.png``; a target is an id (int)."""

    root: Path

    def has(self, video: str, frame: str) -> bool:
        """Whether the frame is annotated."""
        path = self.root / video / f'{frame}.png'
        return find_file(path, ('.png',)) is not None

    def open(
        self, clip: VideoTargets, index: int
    ) -> tuple[tuple[int, int], TrueMask]:
        """Read frame ``index``: its size, and masks; void is background."""
        path = self.root / clip.video / f'{clip.frames[index]}.png'
        labels = read_label_map(path)
        return labels.shape, lambda target, shape: labels == target


class TableTruth(NamedTuple):
    """``mask_dict.json`` of MeViS; a target is a tuple of annotations."""

    path: Path

    def has(self, video: str, frame: str) -> bool:
        """Every frame is annotated: null means nothing is to be seen."""
        del video, frame
        return True

    def open(
        self, clip: VideoTargets, index: int
    ) -> tuple[tuple[int, int] | None, TrueMask]:
        """Look frame ``index`` up, see :meth:`LabelTruth.open`.

        The size is None for a video none of whose objects is ever annotated.
        """
        table = open_mask_table(self.path)
        names = dict.fromkeys(a for t in clip.targets.values() for a in t)
        rles = (rle for n in names if n in table for rle in table[n])
        sizes = (tuple(rle['size']) for rle in rles if rle is not None)
        return next(sizes, None), lambda target, shape: table.mask(
            target, index, shape
        )


class FolderTruth(NamedTuple):
    """Masks of 0 and 255, ``<root>/<video>/<object>/<frame>.png``.

    A target is the name of an object. There is no file where a frame does not
    show it.
    """

    root: Path

    def has(self, video: str, frame: str) -> bool:
        """Every frame is annotated: no file means nothing is to be seen."""
        del video, frame
        return True

    def open(
        self, clip: VideoTargets, index: int
    ) -> tuple[tuple[int, int] | None, TrueMask]:
        """Read frame ``index``, see :meth:`LabelTruth.open`.

        The size is None for a video none of whose objects is ever seen.
        """
        folders = {
            t: self.root / clip.video / t for t in clip.targets.values()
        }

        def true_mask(target: str, shape: tuple[int, int]) -> np.ndarray:
            name = f'{clip.frames[index]}.png'
            path = find_file(folders[target] / name, ('.png',))
            if path is None:
                return np.zeros(shape, bool)
            return read_label_map(path) == 255

        return _size_of_masks(tuple(folders.values())), true_mask


@lru_cache(maxsize=4)
def _size_of_masks(folders: tuple[Path, ...]) -> tuple[int, int] | None:
    """Height and width of the first mask in some folders."""
    for folder in folders:
        for path in list_frames(folder, ('.png',)).values():
            return read_label_map(path).shape
    return None


GroundTruth = LabelTruth | TableTruth | FolderTruth
"""Where true masks come from; sent to other processes."""


class _Chunk(NamedTuple):
    """Some frames of a video, and names of masks that do not exist."""

    clip: VideoTargets
    indices: range
    missing: frozenset[str]


def _score_masks(
    shared: tuple[GroundTruth, PredictedMasks], chunk: _Chunk
) -> np.ndarray:
    """Read and score some frames: shape (6, E, frames), as TargetScores."""
    truth, preds = shared
    clip, scores = chunk.clip, []
    for index in chunk.indices:
        shape, true_mask = truth.open(clip, index)
        names = (clip.mask_name(e, index) for e in clip.targets)
        masks = (
            None if name in chunk.missing else preds.read(name, shape)
            for name in names
        )
        targets = list(clip.targets.values())
        scores.append(score_targets(masks, targets, true_mask, shape=shape))
    return np.stack(scores, axis=2)


class ExpressionFolderScores(NamedTuple):
    """Scores of a folder or zip file of predictions.

    Attributes:
        expressions (dict[str, dict]): By ``<video>/<expression>``: what
            :func:`measure_expression` says, and ``attributes`` if there are
            any.
        num_missing (int): Masks that do not exist.
        num_unannotated (int): Frames left out for want of ground truth.
    """

    expressions: dict[str, dict[str, Any]]
    num_missing: int
    num_unannotated: int


def score_expressions(
    clips: list[VideoTargets],
    truth: GroundTruth,
    preds: PredictedMasks,
    missing: str = 'error',
    unannotated: str = 'error',
    jobs: int = 1,
) -> ExpressionFolderScores:
    """Score the masks of expressions, each on its own.

    Args:
        clips (list[VideoTargets]): What to score.
        truth (GroundTruth): The ground truth.
        preds (PredictedMasks): The predictions.
        missing (str): What a mask that does not exist means: ``'error'``, or
            ``'zero'``: J = F = 0 in that frame, even if nothing is to be
            seen there.
        unannotated (str): What a frame without ground truth means:
            ``'error'``, or ``'skip'``: it is not scored.
        jobs (int): Processes to use.

    Raises:
        DataError: If there is nothing to score, ground truth or predictions
            lack something, or a file is unusable.
    """
    clips, num_unannotated = _annotated(clips, truth, unannotated)
    clips = [clip for clip in clips if clip.targets]
    if not clips:
        raise DataError('There is no expression to score.')
    absent = _find_missing(clips, preds, missing)
    chunks = []
    for clip in clips:
        frames = range(len(clip.frames))
        step = max(_CHUNK // len(clip.targets), 1)
        for indices in (frames[i : i + step] for i in frames[::step]):
            names = (
                clip.mask_name(e, i) for e in clip.targets for i in indices
            )
            lost = frozenset(absent.intersection(names))
            chunks.append(_Chunk(clip, indices, lost))
    sizes = [len(c.clip.targets) * len(c.indices) for c in chunks]
    shared = (truth, preds)
    results = map_tasks(_score_masks, chunks, jobs, sizes, 'masks', shared)
    by_video: dict[str, list[np.ndarray]] = {}
    for chunk, scores in zip(chunks, results, strict=True):
        by_video.setdefault(chunk.clip.video, []).append(scores)
    expressions, unseen = {}, []
    for clip in clips:
        table = np.concatenate(by_video[clip.video], axis=2)
        for e, (expression, target) in enumerate(clip.targets.items()):
            name = f'{clip.video}/{expression}'
            entry = measure_expression(TargetScores(*table[:, e]))
            attributes = (clip.attributes or {}).get(expression)
            if attributes:
                entry['attributes'] = dict(attributes)
            expressions[name] = entry
            if target and not entry['has_target']:
                unseen.append(name)
    if unseen:
        warn(
            f'no frame shows what {len(unseen)} expressions mean: '
            f'{shorten(unseen)}; do the ground truth and the expressions '
            'belong together?'
        )
    return ExpressionFolderScores(expressions, len(absent), num_unannotated)


def _annotated(
    clips: list[VideoTargets], truth: GroundTruth, unannotated: str
) -> tuple[list[VideoTargets], int]:
    """Videos without the frames that have no ground truth."""
    kept, lost = [], []
    for clip in clips:
        frames = tuple(f for f in clip.frames if truth.has(clip.video, f))
        known = set(frames)
        lost += [f'{clip.video}/{f}' for f in clip.frames if f not in known]
        if frames:
            kept.append(clip._replace(frames=frames))
    if lost:
        total = sum(len(clip.frames) for clip in clips)
        text = (
            f'{len(lost)} of {total} frames have no ground truth: '
            f'{shorten(lost)}'
        )
        if unannotated == 'error':
            raise DataError(
                f'{text}; complete it, or leave those frames out of the '
                'score with --unannotated skip.'
            )
        if len(kept) < len(clips):
            text += f'; {len(clips) - len(kept)} videos have none at all'
        warn(f'{text}. They do not count.')
    return kept, len(lost)


def _find_missing(
    clips: list[VideoTargets], preds: PredictedMasks, missing: str
) -> set[str]:
    """Names of the masks that do not exist."""
    present = preds.list_names(
        f'{c.video}/{e}' for c in clips for e in c.targets
    )
    expected = [
        clip.mask_name(expression, index)
        for clip in clips
        for expression in clip.targets
        for index in range(len(clip.frames))
    ]
    lost = [name for name in expected if name not in present]
    if len(lost) == len(expected):
        raise DataError(
            f'{preds.path} holds none of the {len(expected)} masks: it should '
            f'have {expected[0]}, or Annotations/{expected[0]} (a JSON file: '
            f'the expression of this video).',
            file=preds.path,
        )
    if lost:
        text = (
            f'{preds.path} lacks {len(lost)} of {len(expected)} masks: '
            f'{shorten(lost)}'
        )
        if missing == 'error':
            raise DataError(
                f'{text}; write an all-zero mask where nothing was found, or '
                'score them as wrong with --missing zero.',
                file=preds.path,
            )
        warn(f'{text}. They score 0.')
    return set(lost)
