# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""J and F of masks of expressions, each on its own (no matching).

An expression is scored on all frames of its video, counts once however long
the video is, and may mean several objects (their union) or none.
"""

import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from referformer.errors import DataError
from referformer.evaluation.functional.davis import MaskOutline, SequenceScores
from referformer.formats.label_maps import read_label_map, shorten
from referformer.formats.mask_dict import open_mask_table
from referformer.formats.predictions import MaskTree
from referformer.utils.console import warn
from referformer.utils.parallel import ProgressBar, run_tasks

# Masks a process scores at a time.
_CHUNK = 48


class TrueFrame(Protocol):
    """Ground truth of one frame.

    Attributes:
        shape (tuple[int, int] | None): Height and width; None if nothing
            tells (a video none of whose objects is ever annotated).
    """

    shape: tuple[int, int] | None

    def mask(self, target: Any, shape: tuple[int, int]) -> np.ndarray:
        """Return what an expression means, bool, shape (H, W)."""
        ...


class Truth(Protocol):
    """Where true masks come from; sent to other processes."""

    def has(self, video: str, frame: str) -> bool:
        """Whether the frame is annotated."""
        ...

    def open(self, clip: 'Clip', index: int) -> TrueFrame:
        """Read frame ``index`` of a clip."""
        ...


class Clip(NamedTuple):
    """A video and what is to be scored in it.

    Attributes:
        video (str): Its name.
        frames (tuple[str, ...]): Names of its frames, in order of time.
        targets (dict[str, Hashable]): What each expression means, in the
            words of the ground truth.
    """

    video: str
    frames: tuple[str, ...]
    targets: dict[str, Hashable]


class LabelTruth(NamedTuple):
    """Label maps, ``<root>/<video>/<frame>.png``; a target is an id (int).

    Attributes:
        root (Path): Folder of the label maps.
    """

    root: Path

    def has(self, video: str, frame: str) -> bool:
        """Whether the frame is annotated."""
        return (self.root / video / f'{frame}.png').is_file()

    def open(self, clip: Clip, index: int) -> '_LabelFrame':
        """Read a label map."""
        name = f'{clip.frames[index]}.png'
        return _LabelFrame(read_label_map(self.root / clip.video / name))


class _LabelFrame:
    """One label map."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels
        self.shape = labels.shape

    def mask(self, target: int, shape: tuple[int, int]) -> np.ndarray:
        """Pixels of an id; void (255) is background."""
        del shape
        return self.labels == target


class TableTruth(NamedTuple):
    """The RLE masks of MeViS; a target is a tuple of annotations (str).

    Attributes:
        path (Path): The ``mask_dict.json``.
    """

    path: Path

    def has(self, video: str, frame: str) -> bool:
        """Every frame is annotated: null means nothing is to be seen."""
        del video, frame
        return True

    def open(self, clip: Clip, index: int) -> '_TableFrame':
        """Look a frame up."""
        return _TableFrame(self.path, clip, index)


class _TableFrame:
    """One frame of all annotations."""

    def __init__(self, path: Path, clip: Clip, index: int) -> None:
        self.table, self.index = open_mask_table(path), index
        names = dict.fromkeys(a for t in clip.targets.values() for a in t)
        self.shape = next(
            (
                tuple(rle['size'])
                for name in names
                if name in self.table
                for rle in self.table[name]
                if rle is not None
            ),
            None,
        )

    def mask(
        self, target: tuple[str, ...], shape: tuple[int, int]
    ) -> np.ndarray:
        """Union of some annotations."""
        return self.table.mask(target, self.index, shape)


class _Chunk(NamedTuple):
    """Some frames of a clip, the unit of parallel work."""

    clip: Clip
    indices: range
    truth: Truth
    pred: MaskTree
    missing: frozenset[str]


def _score_chunk(chunk: _Chunk) -> np.ndarray:
    """Read and score some frames.

    Returns:
        np.ndarray: J, F and the pixels of the truth, float64, shape
        (3, E, frames).
    """
    clip = chunk.clip
    scores = np.zeros((3, len(clip.targets), len(chunk.indices)))
    for t, index in enumerate(chunk.indices):
        truth = chunk.truth.open(clip, index)
        # Expressions that mean the same share one outline.
        outlines: dict[Hashable, MaskOutline] = {}
        for e, (expression, target) in enumerate(clip.targets.items()):
            name = _mask_name(clip, expression, index)
            if name in chunk.missing:
                continue
            pred = MaskOutline(chunk.pred.read(name, truth.shape))
            if target not in outlines:
                outlines[target] = MaskOutline(truth.mask(target, pred.shape))
            gt = outlines[target]
            scores[:, e, t] = pred.iou(gt), pred.boundary_f(gt), gt.area
    return scores


def _mask_name(clip: Clip, expression: str, index: int) -> str:
    """Name of a predicted mask."""
    return f'{clip.video}/{expression}/{clip.frames[index]}.png'


class ScoredFolder(NamedTuple):
    """Scores of a folder or zip file of predictions.

    Attributes:
        expressions (dict[tuple[str, str], SequenceScores]): Scores by
            video and expression.
        num_missing (int): Masks that were not there.
        num_unannotated (int): Frames left out for want of ground truth.
    """

    expressions: dict[tuple[str, str], SequenceScores]
    num_missing: int
    num_unannotated: int


def score_expressions(
    clips: list[Clip],
    truth: Truth,
    pred: MaskTree,
    missing: str = 'error',
    unannotated: str = 'error',
    jobs: int = 1,
) -> ScoredFolder:
    """Score the masks of expressions.

    Args:
        clips (list[Clip]): What to score.
        truth (Truth): The ground truth.
        pred (MaskTree): The predictions.
        missing (str): What a mask that is not there means: ``'error'``, or
            ``'zero'``: J = F = 0 in that frame, even if nothing is to be
            seen there.
        unannotated (str): What a frame without ground truth means:
            ``'error'``, or ``'skip'``: it is not scored.
        jobs (int): Processes to use.

    Returns:
        ScoredFolder: The scores.

    Raises:
        DataError: If there is nothing to score, ground truth or predictions
            lack something, or a file is unusable.
    """
    clips, num_unannotated = _annotated(clips, truth, unannotated)
    clips = [clip for clip in clips if clip.targets]
    if not clips:
        raise DataError('There is no expression to score.')
    absent = _find_missing(clips, pred, missing)
    chunks = []
    for clip in clips:
        size = max(_CHUNK // len(clip.targets), 1)
        for start in range(0, len(clip.frames), size):
            indices = range(start, min(start + size, len(clip.frames)))
            chunks.append(
                _Chunk(
                    clip,
                    indices,
                    truth,
                    pred,
                    frozenset(
                        name
                        for expression in clip.targets
                        for index in indices
                        if (name := _mask_name(clip, expression, index))
                        in absent
                    ),
                )
            )
    total = sum(len(c.targets) * len(c.frames) for c in clips)
    progress = ProgressBar(total, 'masks')
    parts: dict[int, np.ndarray] = {}
    for position, scores in run_tasks(_score_chunk, chunks, jobs):
        parts[position] = scores
        progress.update(scores[0].size)
    by_video: dict[str, list[np.ndarray]] = {}
    for position, chunk in enumerate(chunks):
        by_video.setdefault(chunk.clip.video, []).append(parts[position])
    expressions, unseen = {}, []
    for clip in clips:
        j, f, area = np.concatenate(by_video[clip.video], axis=2)
        for e, (expression, target) in enumerate(clip.targets.items()):
            expressions[clip.video, expression] = SequenceScores(j[e], f[e])
            if target and not area[e].any():
                unseen.append(f'{clip.video}/{expression}')
    if unseen:
        warn(
            f'no frame shows what {len(unseen)} expressions mean: '
            f'{shorten(unseen)}; do the ground truth and the expressions '
            'belong together?'
        )
    return ScoredFolder(expressions, len(absent), num_unannotated)


def _annotated(
    clips: list[Clip], truth: Truth, unannotated: str
) -> tuple[list[Clip], int]:
    """Clips without the frames that have no ground truth."""
    kept, lost, total = [], [], 0
    for clip in clips:
        frames = tuple(f for f in clip.frames if truth.has(clip.video, f))
        lost += [f'{clip.video}/{f}' for f in clip.frames if f not in frames]
        total += len(clip.frames)
        if frames:
            kept.append(clip._replace(frames=frames))
    if lost:
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


def _find_missing(clips: list[Clip], pred: MaskTree, missing: str) -> set[str]:
    """Names of the masks that are not there."""
    folders = [f'{c.video}/{e}' for c in clips for e in c.targets]
    present = pred.list_names(folders)
    expected = [
        _mask_name(clip, expression, index)
        for clip in clips
        for expression in clip.targets
        for index in range(len(clip.frames))
    ]
    lost = [name for name in expected if name not in present]
    if len(lost) == len(expected):
        raise DataError(
            f'{pred.path} holds none of the {len(expected)} masks: it should '
            f'have {expected[0]}, or Annotations/{expected[0]}.'
        )
    if lost:
        text = (
            f'{pred.path} lacks {len(lost)} of {len(expected)} masks: '
            f'{shorten(lost)}'
        )
        if missing == 'error':
            raise DataError(
                f'{text}; write an all-zero mask where nothing was found, or '
                'score them as wrong with --missing zero.'
            )
        warn(f'{text}. They score 0.')
    return set(lost)


def summarize_expressions(
    expressions: Mapping[tuple[str, str], SequenceScores],
) -> dict[str, Any]:
    """Mean over frames, then over expressions.

    Args:
        expressions (Mapping): Scores by video and expression, not empty.

    Returns:
        dict: ``J&F``, ``J``, ``F`` as fractions, and ``per_expression``:
        ``<video>/<expression>`` -> ``J&F``, ``J``, ``F``, ``num_frames``.
    """
    per_expression = {
        f'{video}/{expression}': {
            'J&F': float(j.mean() + f.mean()) / 2,
            'J': float(j.mean()),
            'F': float(f.mean()),
            'num_frames': len(j),
        }
        for (video, expression), (j, f) in sorted(expressions.items())
    }
    j, f = (
        math.fsum(entry[key] for entry in per_expression.values())
        / len(per_expression)
        for key in 'JF'
    )
    return {
        'J&F': (j + f) / 2,
        'J': j,
        'F': f,
        'per_expression': per_expression,
    }
