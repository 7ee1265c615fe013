# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Predicted masks of expressions in one JSON file, run-length encoded.

A JSON list, or JSON lines, has one entry an expression, as YouTube-VIS has one
an object::

    {"video_id": "0062f687f1", "exp_id": "0", "score": 0.93,
     "segmentations": [{"size": [720, 1280], "counts": "..."}, null, ...]}

``segmentations`` has a mask for every frame of the video in the expressions
file, in natural order of their names; ``null`` is an empty mask.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from referformer.errors import DataError, MissingDataError
from referformer.formats.coco import encode_masks
from referformer.formats.records import index_records
from referformer.formats.rle import (
    MAX_SIDE,
    decode_union,
    finite_number,
    looks_like_rle,
    to_rle,
)
from referformer.formats.text_files import show


class MaskTracks(NamedTuple):
    """Masks in one JSON file, read as :class:`.MaskFolder` does.

    Attributes:
        path: The file.
        frames: Video -> frame -> its position.
        spans: ``<video>/<expression>`` -> first byte of its entry, and the
            one after it.
    """

    path: Path
    frames: dict[str, dict[str, int]]
    spans: dict[str, tuple[int, int]]

    def read(
        self, name: str, shape: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Read one mask, see :meth:`.MaskFolder.read`.

        Where nothing tells the size of an empty mask, it is 1 x 1.
        """
        track, _, frame = name.removesuffix('.png').rpartition('/')
        position = self.frames[track.rpartition('/')[0]][frame]
        if track not in self.spans:
            raise MissingDataError(
                f'{self.path} has no {track}.', file=self.path
            )
        masks = _read_track(
            self.path, self.path.stat().st_mtime_ns, self.spans[track]
        )
        rle = masks[position]
        if rle is None:
            sizes = (mask['size'] for mask in masks if mask is not None)
            return np.zeros(shape or next(sizes, (1, 1)), bool)
        shape = shape or tuple(rle['size'])
        try:
            return decode_union([to_rle(rle, *shape)], shape)
        except ValueError as error:
            raise DataError(
                f'{self.path}: the mask of {track} in frame {frame} {error}.',
                file=self.path,
                value=track,
            ) from None

    def list_names(self, folders: Iterable[str]) -> set[str]:
        """Names of all masks, ``<video>/<expression>/<frame>.png``."""
        return {
            f'{track}/{frame}.png'
            for track in folders
            if track in self.spans
            for frame in self.frames[track.rpartition('/')[0]]
        }


@lru_cache(maxsize=128)
def _read_track(
    path: Path, mtime: int, span: tuple[int, int]
) -> list[dict | None]:
    """Read the masks of an entry that was looked through before."""
    del mtime
    with path.open('rb') as file:
        file.seek(span[0])
        return json.loads(file.read(span[1] - span[0]))['segmentations']


def open_tracks(path: Path, frames: Mapping[str, Sequence[str]]) -> MaskTracks:
    """Note where the expressions of a JSON file are.

    Of several entries for an expression the one with the best score counts.
    """
    spans: dict[str, tuple[int, int]] = {}
    scores: dict[str, float] = {}
    for number, (start, end, entry) in enumerate(index_records(path)):
        where = f'{path}: prediction {number}'
        track, score = _check_track(where, path, entry, frames)
        if scores.get(track) == score:
            raise DataError(
                f'{where} is another one of {track} with the same score; take '
                'out the overlap when joining results of several processes.',
                file=path,
                value=track,
            )
        if score > scores.get(track, -math.inf):
            spans[track], scores[track] = (start, end), score
    positions = {
        video: {frame: t for t, frame in enumerate(names)}
        for video, names in frames.items()
    }
    return MaskTracks(path, positions, spans)


def _check_track(
    where: str, path: Path, entry: Any, frames: Mapping[str, Sequence[str]]
) -> tuple[str, float]:
    """Return ``<video>/<expression>`` and the score of an entry.

    Raises:
        DataError: If it is none, or does not fit its video.
    """
    names = [
        entry.get(key) if isinstance(entry, dict) else None
        for key in ('video_id', 'exp_id')
    ]
    if not all(type(name) in (int, str) and name != '' for name in names):
        raise DataError(
            f'{where} has no names "video_id" and "exp_id".', file=path
        )
    video, expression = map(str, names)
    track = f'{video}/{expression}'
    score = finite_number(entry.get('score', 0.0))
    if score is None:
        raise DataError(
            f'{where} ({track}) has the score {show(entry["score"])}, not a '
            'finite number.',
            file=path,
        )
    masks = entry.get('segmentations')
    if not isinstance(masks, list) or not all(
        mask is None
        or (looks_like_rle(mask) and max(mask['size']) <= MAX_SIDE)
        for mask in masks
    ):
        raise DataError(
            f'{where} ({track}) has no list "segmentations" of run-length '
            'codes {"size": [height, width], "counts": ...} and null.',
            file=path,
        )
    length = len(frames.get(video, masks))
    if len(masks) != length:
        raise DataError(
            f'{where} ({track}) has {len(masks)} segmentations, but the '
            f'video {length} frames; write one for each, null where nothing '
            'was found.',
            file=path,
            value=len(masks),
        )
    return track, score


def encode_track(
    video: str,
    expression: str,
    masks: Iterable[np.ndarray | None],
    score: float | None = None,
) -> dict[str, Any]:
    """Describe the masks of an expression as an entry of a JSON file.

    Args:
        video: Name of the video.
        expression: Name of the expression.
        masks: A mask for each frame, bool, shape (H, W); an empty
            one or None where nothing was found.
        score: Confidence; larger is better.
    """
    segmentations = [
        None if mask is None or not mask.any() else encode_masks(mask[None])[0]
        for mask in masks
    ]
    scores = {} if score is None else {'score': score}
    return {
        'video_id': video,
        'exp_id': expression,
        **scores,
        'segmentations': segmentations,
    }
