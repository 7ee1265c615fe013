# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The files of A2D-Sentences."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from referformer.errors import (
    DataError,
    MissingDataError,
    MissingPackageError,
)
from referformer.formats.frames import is_plain_name
from referformer.formats.text_files import (
    check_count,
    read_rows,
    read_table,
    wrong_line,
)

PAGE = 'docs/datasets/a2d-sentences.md'
#: Split -> its number in the last column of videoset.csv.
SPLITS = {'train': '0', 'test': '1'}
#: Wrong instance of one sentence, in place of a number.
_COPY = '1 (copy)'
_ARCHIVE = 'extract a2d_annotation_with_instances.zip again.'


class A2DFrame(NamedTuple):
    """The annotation of a frame of A2D-Sentences.

    Attributes:
        ids: The instances in it, n of them.
        masks: bool, shape (n, H, W).
        boxes: x1, y1, x2, y2 in pixels, float64, shape (n, 4); ``None`` if
            the file has none.
    """

    ids: list[int]
    masks: np.ndarray
    boxes: np.ndarray | None


class A2DSample(NamedTuple):
    """A row of a ``single_frame`` annotation file.

    Attributes:
        text: The sentence.
        video: Name of the video.
        frame: Number of the annotated frame, from 1 on.
        instance: Number of the instance in that frame.
    """

    text: str
    video: str
    frame: int
    instance: int


class A2DSentence(NamedTuple):
    """A line of ``a2d_annotation.txt`` that is used."""

    video: str
    instance: int
    text: str


def read_samples(path: str | Path) -> list[A2DSample]:
    """Read ``a2d_sentences_single_frame_*_annotations.json``.

    Raises:
        MissingDataError: If the file is missing.
        DataError: If a row is not as it should be.
    """
    return read_rows(
        path,
        '[expression, video, frame from 1 on, instance]',
        _parse_sample,
        PAGE,
    )


def _parse_sample(row: list) -> A2DSample | str:
    """Return a row as a sample, or the code of what is wrong with it."""
    text, video, frame, instance = row
    if not isinstance(text, str) or not text.strip():
        return 'expression-empty'
    if not is_plain_name(video):
        return 'name-unsafe'
    if instance == _COPY:
        return 'instance-copy'
    if frame == 0:
        return 'frames-from-zero'
    if type(frame) is not int or type(instance) is not int or frame < 0:
        return 'row-wrong'
    return A2DSample(text, video, frame, instance)


def read_videoset(
    path: str | Path, expected: int | None = None
) -> dict[str, str]:
    """Read ``videoset.csv``: the split of each video.

    Args:
        path: The file.
        expected: How many videos it must list; ``None`` does not check.

    Returns:
        Name of the video -> ``'train'`` or ``'test'``.

    Raises:
        MissingDataError: If the file is missing.
        DataError: If a line is wrong, or their number.
    """
    rows = read_table(path)
    check_count(path, len(rows), expected, 'videos', '--videos')
    names = {number: split for split, number in SPLITS.items()}
    splits = {}
    for number, row in enumerate(rows, 1):
        if len(row) < 2 or row[-1] not in names:
            raise wrong_line(
                path, number, ','.join(row), 'video,...,0 or 1 (test)'
            )
        splits[row[0]] = names[row[-1]]
    return splits


def read_sentences(path: str | Path, expected: int) -> list[A2DSentence]:
    """Read ``a2d_annotation.txt``, without known annotation errors.

    Args:
        path: The file.
        expected: How many sentences it must have.

    Raises:
        MissingDataError: If the file is missing.
        DataError: If a line is wrong, or their number.
    """
    rows = read_table(path)[1:]  # the first names the columns
    check_count(path, len(rows), expected, 'sentences', '--sentences')
    sentences = []
    for number, row in enumerate(rows, 2):
        if len(row) >= 3 and row[1] == _COPY:
            continue  # in T6bNPuKV-wY: an instance that does not exist
        text = ','.join(row[2:]).lower()
        if not text or not is_plain_name(row[0]) or not row[1].isdecimal():
            raise wrong_line(
                path, number, ','.join(row), 'video,instance,sentence'
            )
        sentences.append(A2DSentence(row[0], int(row[1]), text))
    return sentences


def read_a2d_frame(path: Path) -> A2DFrame:
    """Read an HDF5 file of ``a2d_annotation_with_instances``.

    MATLAB wrote it: its arrays are transposed, and lose an axis where there
    is a single instance.

    Raises:
        MissingDataError: If the file is missing.
        MissingPackageError: If h5py is not installed.
        DataError: If it is damaged or does not hold what it should.
    """
    ids, masks, boxes = _read_hdf5(path, 'instance', 'reMask', 'reBBox')
    ids = _parse_ids(path, ids)
    if masks is not None and masks.ndim == 2:
        masks = masks[None]
    if (
        masks is None
        or masks.ndim != 3
        or masks.dtype.kind not in 'biuf'
        or len(masks) != len(ids)
    ):
        shape = None if masks is None else masks.shape
        raise _broken(
            path, f'"reMask" has the shape {shape} for {len(ids)} instances'
        )
    # Boxes are a by-product: what is no box is left out.
    if boxes is not None:
        numbers = boxes.dtype.kind in 'iuf' and boxes.size == 4 * len(ids)
        numbers = numbers and np.isfinite(boxes).all()
        boxes = boxes.reshape(4, -1).T.astype(np.float64) if numbers else None
    return A2DFrame(ids, masks.transpose(0, 2, 1) > 0, boxes)


def read_a2d_ids(path: Path) -> list[int]:
    """Return only the instances of such a file; see :func:`read_a2d_frame`."""
    return _parse_ids(path, *_read_hdf5(path, 'instance'))


def _read_hdf5(path: Path, *names: str) -> list[np.ndarray | None]:
    """Return data sets of an HDF5 file, ``None`` for those it lacks."""
    try:
        import h5py
    except ImportError as error:
        raise MissingPackageError(
            'Reading the masks of A2D-Sentences needs h5py: pip install h5py'
        ) from error
    if not path.is_file():
        raise MissingDataError(
            f'Masks {path} are missing',
            file=path,
            remedy=_ARCHIVE,
            code='mask-missing',
        )
    try:
        with h5py.File(path, 'r') as file:
            return [
                np.asarray(file[name]) if name in file else None
                for name in names
            ]
    except OSError as error:
        raise _broken(path, f'the file is damaged ({error})') from None


def _parse_ids(path: Path, ids: np.ndarray | None) -> list[int]:
    """Return the ids of instances as numbers."""
    if (
        ids is None
        or ids.dtype.kind not in 'iuf'
        or not np.isfinite(ids).all()
    ):
        raise _broken(path, 'it has no list of numbers "instance"')
    return [int(value) for value in ids.ravel()]


def _broken(path: Path, reason: str) -> DataError:
    """Return the error that a file of masks cannot be used."""
    return DataError(
        f'Masks {path} cannot be read: {reason}',
        file=path,
        remedy=_ARCHIVE,
        code='mask-broken',
    )
